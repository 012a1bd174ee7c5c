import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.channel.gsop_block import GSoPBlock
from attnzoo_vision.channel.gsop_channel import GSoPChannel
from attnzoo_vision.channel.gsop_position import GSoPPosition


def _filtered(block, matrix):
    norm = block.row_norm
    rows = (matrix - norm.running_mean[:, None]) / (norm.running_var + norm.eps).sqrt()[:, None]
    weight = block.row_filter.weight.unflatten(0, (matrix.shape[1], 4))
    return torch.einsum("nrd,rjd->nrj", rows, weight).flatten(1) + block.row_filter.bias


def test_channel_weights_come_from_the_biased_covariance():
    torch.manual_seed(0)
    block = GSoPChannel(6, hidden_channels=4, stride=2).double().eval()
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    features = torch.relu(block.norm(block.reduce(torch.relu(x)))).flatten(2)
    covariance = torch.stack([torch.cov(sample, correction=0) for sample in features])
    weight = torch.sigmoid(block.expand(_filtered(block, covariance)))
    torch.testing.assert_close(block(x), x * weight[:, :, None, None])


def test_position_weights_come_from_the_covariance_of_64_channels():
    torch.manual_seed(0)
    block = GSoPPosition(3, hidden_channels=64).double().eval()
    x = torch.randn(2, 3, 5, 9, dtype=torch.float64)
    features = F.adaptive_avg_pool2d(block.norm(block.reduce(torch.relu(x))), 8).flatten(2)
    covariance = torch.stack([torch.cov(sample.T, correction=0) for sample in features])
    grid = torch.sigmoid(block.expand(torch.relu(_filtered(block, covariance)))).view(2, 1, 8, 8)
    torch.testing.assert_close(block(x), torch.relu(x * F.adaptive_avg_pool2d(grid, (5, 9))))


def test_an_activation_may_follow_the_filters_of_the_rows():
    torch.manual_seed(0)
    block = GSoPChannel(6, hidden_channels=4, activation="leaky_relu").double().eval()
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    features = torch.relu(block.norm(block.reduce(torch.relu(x)))).flatten(2)
    rows = _filtered(block, torch.stack([torch.cov(sample, correction=0) for sample in features]))
    assert rows.lt(0).any()
    weight = torch.sigmoid(block.expand(torch.where(rows < 0, 0.01 * rows, rows)))
    torch.testing.assert_close(block(x), x * weight[:, :, None, None])


def test_position_weights_of_other_numbers_of_channels_are_not_centred_unless_told():
    torch.manual_seed(0)
    plain, centred = (GSoPPosition(3, hidden_channels=6, centred=value).double().eval() for value in (False, True))
    centred.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 5, 9, dtype=torch.float64)
    features = F.adaptive_avg_pool2d(plain.norm(plain.reduce(torch.relu(x))), 8).flatten(2)
    covariance = torch.stack([torch.cov(sample.T, correction=0) for sample in features])
    sums = features.sum(1)
    uncentred = features.transpose(1, 2) @ features / 64 - sums[:, :, None] * sums[:, None, :] / 64**2
    for block, statistics in ((plain, uncentred), (centred, covariance)):
        grid = torch.sigmoid(block.expand(torch.relu(_filtered(block, statistics)))).view(2, 1, 8, 8)
        torch.testing.assert_close(block.attention(x)["grid"], grid)
        torch.testing.assert_close(block(x), torch.relu(x * F.adaptive_avg_pool2d(grid, (5, 9))))
    assert not torch.allclose(plain(x), centred(x), atol=1e-3)


def test_new_blocks_are_drawn_by_their_outputs():
    torch.manual_seed(0)
    block = GSoPBlock(256, attention="sum")
    parts = block.channel, block.position
    layers = [(part.reduce, 128) for part in parts] + [(block.channel.expand, 256), (block.position.expand, 64)]
    layers += [(block.channel.row_filter, 128 * 512), (block.position.row_filter, 64 * 256), (block.conv2.conv, 9 * 64)]
    for layer, outputs in layers:
        assert layer.weight.std().item() == pytest.approx((2 / outputs) ** 0.5, rel=0.05)


def test_an_unknown_activation_of_the_rows_is_refused():
    message = (
        "^GSoPChannel: activation='lrelu' is not known; use one of 'relu', 'relu6', 'leaky_relu', 'elu', 'celu', "
        "'selu', 'silu', 'gelu', 'gelu_tanh', 'quick_gelu', 'hard_swish', 'mish', 'hard_mish', 'softplus', 'softsign', "
        "'sigmoid', 'log_sigmoid', 'hard_sigmoid', 'tanh', 'hard_tanh', 'identity'$"
    )
    with pytest.raises(ValueError, match=message):
        GSoPChannel(6, activation="lrelu")


@pytest.mark.parametrize("kind", ["none", "channel", "position", "sum", "max", "concat"])
def test_every_attention_of_the_bottleneck_trains(kind):
    torch.manual_seed(0)
    block = GSoPBlock(64, attention=kind, attention_channels=4)
    block(torch.randn(2, 64, 3, 5)).sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())


def test_a_concatenation_may_round_its_groups_down():
    block = GSoPBlock(96, hidden_channels=24, attention="concat", attention_channels=4).eval()
    assert block.fusion.of_channel.groups == 1
    assert block(torch.randn(2, 96, 6, 1)).shape == (2, 96, 6, 1)
    message = "^GSoPBlock: attention='concat' with hidden_channels=8, expected 16 to 512, whose quadruple falls into "
    message += "hidden_channels // 16 groups; use a multiple of 16$"
    with pytest.raises(ValueError, match=message):
        GSoPBlock(32, hidden_channels=8, attention="concat")


def test_a_change_of_shape_without_projection_is_refused():
    message = "^GSoPBlock: projection=False needs stride=1 and channels=64, found 2 and 64 with hidden_channels=16; "
    message += "use projection=True$"
    with pytest.raises(ValueError, match=message):
        GSoPBlock(64, stride=2)


def test_means_above_the_root_of_half_precision_do_not_overflow():
    block = GSoPPosition(16).eval()
    torch.nn.init.constant_(block.norm.bias, 2.2)
    assert block.half()(torch.randn(2, 16, 16, 16).half()).isfinite().all()
