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
    message = "^GSoPBlock: attention='concat' needs hidden_channels of 16 to 512 such that their quadruple falls into "
    message += "hidden_channels // 16 groups, as that of multiples of 16 does; found 8$"
    with pytest.raises(ValueError, match=message):
        GSoPBlock(32, hidden_channels=8, attention="concat")


def test_a_change_of_shape_without_projection_is_refused():
    message = "^GSoPBlock: projection=False needs stride=1 and channels=64, found 2 and 64 with hidden_channels=16$"
    with pytest.raises(ValueError, match=message):
        GSoPBlock(64, stride=2)
