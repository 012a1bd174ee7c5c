import pytest
import torch

from attnzoo_vision.channel.ceca import CECA


def test_the_last_channel_is_next_to_the_first():
    torch.manual_seed(0)
    block = CECA(5, kernel_size=3, bias=True).double()
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    means, (left, middle, right) = x.mean((2, 3)), block.conv.weight.flatten()
    signal = left * means.roll(1, 1) + middle * means + right * means.roll(-1, 1) + block.conv.bias
    torch.testing.assert_close(block(x), x * torch.sigmoid(signal)[:, :, None, None])


def test_a_kernel_that_goes_round_the_channels_more_than_once_is_refused():
    message = "^CECA: kernel_size=9 goes round 1 channels more than once; use 3 or less$"
    with pytest.raises(ValueError, match=message):
        CECA(1, kernel_size=9)
    with pytest.raises(ValueError, match=message):
        CECA(16, kernel_size=9)(torch.ones(1, 1, 2, 2))
