import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnzoo_vision.channel.eca_ns import ECANS


@pytest.mark.parametrize("bias", [False, True])
def test_output_is_a_filter_for_each_channel(bias):
    torch.manual_seed(0)
    block = ECANS(6, kernel_size=3).double()
    given = torch.randn(6, dtype=torch.float64) if bias else torch.zeros(6, dtype=torch.float64)
    if bias:
        block.conv.bias = nn.Parameter(given)
    x = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    padded = F.pad(x.mean((2, 3)), (1, 1))
    for channel in range(6):
        weight = torch.sigmoid(padded[:, channel : channel + 3] @ block.conv.weight[channel, 0] + given[channel])
        torch.testing.assert_close(block(x)[:, channel], x[:, channel] * weight[:, None, None])
