import pytest
import torch

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
