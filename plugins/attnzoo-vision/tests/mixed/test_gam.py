import pytest
import torch

from attnzoo_vision.mixed.gam import GAM


@pytest.mark.parametrize("channel_sigmoid", [True, False])
def test_equals_the_formula(channel_sigmoid: bool) -> None:
    torch.manual_seed(0)
    block = GAM(8, channel_sigmoid=channel_sigmoid).double().eval()
    x = torch.randn(2, 8, 5, 7, dtype=torch.float64)
    weight = block.excite(torch.relu(block.squeeze(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
    z = x * (torch.sigmoid(weight) if channel_sigmoid else weight)
    torch.testing.assert_close(block(x), z * torch.sigmoid(block.spatial(z)))


def test_a_reduction_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="GAM: reduction=4 is above channels=2; use 2 or less"):
        GAM(2)


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="GAM: kernel_size=6 is not a positive odd number; use 5 or 7"):
        GAM(8, kernel_size=6)
