import pytest
import torch

from attnzoo_vision.mixed.bam import BAM


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("combine", ["product", "sum"])
def test_equals_the_formula(combine: str, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    block = BAM(16, reduction=4, combine=combine).double().eval()
    x = torch.randn(2, 16, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    channel, spatial = block.channel(x.mean((2, 3)))[:, :, None, None], block.spatial(x)
    expected = x * (1 + torch.sigmoid(channel * spatial if combine == "product" else channel + spatial))
    torch.testing.assert_close(block(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected)


def test_a_reduction_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="BAM: reduction=16 is above channels=8; use 8 or less"):
        BAM(8)


def test_an_unknown_combination_is_refused() -> None:
    with pytest.raises(ValueError, match="BAM: combine='max' is not known; use one of 'product', 'sum'"):
        BAM(16, combine="max")
