import pytest
import torch

from attnzoo_vision.mixed.scse import SCSE


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("combine", ["max", "sum", "product", "concat"])
def test_equals_the_formula(combine: str, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    block = SCSE(16, combine=combine).double()
    x = torch.randn(2, 16, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    channel = torch.sigmoid(block.excite(torch.relu(block.squeeze(x.mean((2, 3))))))[:, :, None, None]
    by_channel, by_pixel = x * channel, x * torch.sigmoid(block.spatial(x))
    expected = {
        "max": torch.max(by_channel, by_pixel),
        "sum": by_channel + by_pixel,
        "product": x**2 * channel * torch.sigmoid(block.spatial(x)),
        "concat": torch.stack([*by_channel.unbind(1), *by_pixel.unbind(1)], dim=1),
    }[combine]
    torch.testing.assert_close(block(x), expected)
    with torch.no_grad():
        y = block(x)
    torch.testing.assert_close(y, expected)
    assert y.is_contiguous(memory_format=layout)


def test_a_reduction_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="SCSE: reduction=8 is above channels=4; use 4 or less"):
        SCSE(4, reduction=8)


def test_an_unknown_combination_is_refused() -> None:
    with pytest.raises(
        ValueError, match="SCSE: combine='min' is not known; use one of 'max', 'sum', 'product', 'concat'"
    ):
        SCSE(4, combine="min")
