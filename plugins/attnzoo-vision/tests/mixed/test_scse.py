import pytest
import torch

from attnzoo_vision.mixed.scse import SCSE


@pytest.mark.parametrize("combine", ["max", "sum"])
def test_equals_the_formula(combine: str) -> None:
    torch.manual_seed(0)
    block, x = SCSE(16, combine=combine).double(), torch.randn(2, 16, 5, 7, dtype=torch.float64)
    channel = torch.sigmoid(block.excite(torch.relu(block.squeeze(x.mean((2, 3))))))[:, :, None, None]
    by_channel, by_pixel = x * channel, x * torch.sigmoid(block.spatial(x))
    expected = torch.max(by_channel, by_pixel) if combine == "max" else by_channel + by_pixel
    torch.testing.assert_close(block(x), expected)


def test_a_reduction_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="SCSE: reduction=8 is above channels=4; use 4 or less"):
        SCSE(4, reduction=8)


def test_an_unknown_combination_is_refused() -> None:
    with pytest.raises(ValueError, match="SCSE: combine='min' is not known; use one of 'max', 'sum'"):
        SCSE(4, combine="min")
