import pytest
import torch

import attnzoo
from attnzoo_vision.channel.split_attention import SplitAttention


def test_output_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    block = SplitAttention(8, hidden_channels=4).double().eval()
    x = torch.randn(2, 8, 5, 3, dtype=torch.float64)
    first, second = torch.relu(block.conv_norm(block.conv(x))).split(8, dim=1)
    pooled = (first + second).mean((2, 3))
    hidden = torch.relu(block.squeeze_norm(pooled @ block.squeeze.weight.T + block.squeeze.bias))
    logit = (hidden @ block.select.weight.T + block.select.bias).view(2, 2, 8)
    weight = logit.softmax(1)[:, :, :, None, None]
    expected = first * weight[:, 0] + second * weight[:, 1]
    torch.testing.assert_close(block(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected)


def test_a_new_block_is_drawn_as_the_network_of_the_authors():
    torch.manual_seed(0)
    block = SplitAttention(128, groups=2, hidden_channels=256, bias=True)
    for layer, outputs in ((block.conv, 256 * 9), (block.squeeze, 256), (block.select, 256)):
        assert layer.weight.std().item() == pytest.approx((2 / outputs) ** 0.5, rel=0.03)
    bounds = ((block.conv, 32 * 9), (block.squeeze, 64), (block.select, 128))  # the inputs of a group
    for layer, inputs in bounds:
        assert 0.9 * inputs**-0.5 < layer.bias.abs().max().item() <= inputs**-0.5
    for norm in (block.conv_norm, block.squeeze_norm):
        assert norm.weight.eq(1).all()
        assert norm.bias.eq(0).all()


def test_groups_and_splits_that_do_not_divide_are_refused():
    message = r"^SplitAttention: groups=3 times radix=2 does not divide channels=16; use groups=2 or 4$"
    with pytest.raises(ValueError, match=message):
        SplitAttention(16, groups=3)


@pytest.mark.parametrize("rectify_avg", [False, True])
@pytest.mark.parametrize("padding", [0, (0, 0)])
def test_without_padding_there_is_nothing_to_rectify(tmp_path, padding, rectify_avg):
    block = attnzoo.create("split-attention", channels=8, padding=0, hidden_channels=32, norm=False)
    attnzoo.export(block, tmp_path / "a.safetensors", "zhanghang1989")
    given = {"in_channels": 8, "channels": 8, "kernel_size": 3, "padding": padding, "bias": False}
    given |= {"rectify": True, "rectify_avg": rectify_avg}
    loaded = attnzoo.load_foreign(tmp_path / "a.safetensors", "split-attention", "zhanghang1989", **given)
    x = torch.randn(2, 8, 5, 4)
    assert torch.equal(loaded.eval()(x), block.eval()(x))


def test_sizes_may_be_pairs_as_in_the_authors_code(tmp_path):
    block = attnzoo.create("split-attention", channels=8, stride=2, dilation=2, hidden_channels=32)
    attnzoo.export(block, tmp_path / "a.safetensors", "zhanghang1989")
    given = {"in_channels": 8, "channels": 8, "bias": False, "norm_layer": "torch.nn.BatchNorm2d"}
    given |= {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1), "dilation": (2, 2)}
    loaded = attnzoo.load_foreign(tmp_path / "a.safetensors", "split-attention", "zhanghang1989", **given)
    x = torch.randn(2, 8, 7, 6)
    assert torch.equal(loaded.eval()(x), block.eval()(x))
