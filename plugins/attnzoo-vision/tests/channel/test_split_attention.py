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


def test_groups_and_splits_that_do_not_divide_are_refused():
    message = r"^SplitAttention: groups \* radix=6 does not divide channels=16; use groups \* radix=4 or 8$"
    with pytest.raises(ValueError, match=message):
        SplitAttention(16, groups=3)
