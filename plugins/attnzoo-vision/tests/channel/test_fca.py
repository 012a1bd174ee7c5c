import math

import pytest
import torch

from attnzoo_vision.channel.fca import FCA


def test_the_first_frequency_is_the_mean_times_the_root_of_the_pixels():
    torch.manual_seed(0)
    block = FCA(4, reduction=2, frequencies="top1").double()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(block.attention(x)["frequency"].flatten(1), x.mean((2, 3)) * 7, atol=1e-6, rtol=1e-6)


def test_each_group_of_channels_has_its_frequency():
    block = FCA(4, dct_height=14, dct_width=7, reduction=2, frequencies="low2")
    rows, columns = torch.arange(14) + 0.5, torch.arange(7) + 0.5
    second = torch.cos(math.pi * 0 * rows / 14)[:, None] / math.sqrt(14)
    second = second * torch.cos(math.pi * 1 * columns / 7)[None] * math.sqrt(2 / 7)
    torch.testing.assert_close(block.dct_basis[2], second)
    torch.testing.assert_close(block.dct_basis[3], second)


def test_output_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    block = FCA(16, reduction=4).double()
    x = torch.randn(2, 16, 5, 9, dtype=torch.float64)
    pooled = torch.nn.functional.adaptive_avg_pool2d(x, (7, 7))
    s = (pooled * block.dct_basis).sum((2, 3))
    weight = torch.sigmoid(torch.relu(s @ block.squeeze.weight.T) @ block.excite.weight.T)
    torch.testing.assert_close(block(x), x * weight[:, :, None, None])


def test_more_frequencies_than_fit_the_channels_are_refused():
    with pytest.raises(ValueError, match=r"^FCA: frequencies='top16': 16 does not divide channels=24; use a divisor$"):
        FCA(24)


def test_a_small_dct_is_refused():
    with pytest.raises(ValueError, match=r"^FCA: dct_height=5 is below 7, where all frequencies are 0; use 7 or more$"):
        FCA(16, dct_height=5)


def test_a_narrow_dct_is_refused():
    with pytest.raises(ValueError, match=r"^FCA: dct_width=5 is below 7, where all frequencies are 0; use 7 or more$"):
        FCA(16, dct_width=5)


@pytest.mark.parametrize("frequencies", ["mid4", "top", "top33", "low0"])
def test_an_unknown_choice_of_frequencies_is_refused(frequencies):
    message = f"FCA: frequencies={frequencies!r} is not known; use top, low or bot and a number, as in 'top16'"
    with pytest.raises(ValueError, match=f"^{message}$"):
        FCA(32, frequencies=frequencies)
