import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.mixed.residual_attention import ResidualAttention


@pytest.mark.parametrize("extra", [True, False])
def test_equals_the_formula_with_two_levels(extra: bool) -> None:
    torch.manual_seed(0)
    block = ResidualAttention(8, depth=2, extra_skips=extra).double().eval()
    x = torch.randn(2, 8, 9, 7, dtype=torch.float64)

    def up(z: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return F.interpolate(z, like.shape[2:], mode="bilinear", align_corners=True) + extra * like

    u = block.first(x)
    trunk = block.trunk(u)
    level = block.down[0](F.max_pool2d(u, 3, 2, 1))
    bottom = block.bottom(F.max_pool2d(level, 3, 2, 1))
    top = up(block.up[0](up(bottom, level) + block.skip[0](level)), trunk)
    expected = block.last(trunk * (1 + torch.sigmoid(block.mask(top))))
    torch.testing.assert_close(block(x), expected)


def test_a_width_that_four_does_not_divide_is_rounded_down() -> None:
    block = ResidualAttention(10, depth=1)
    assert block.first.conv2.weight.shape == (2, 2, 3, 3)
    assert block(torch.randn(2, 10, 5, 4)).shape == (2, 10, 5, 4)


def test_too_few_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="ResidualAttention: channels=3 is below 4; use 4 or more"):
        ResidualAttention(3)


def test_a_negative_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="ResidualAttention: depth=-1 is negative; the authors use 3, 2 and 1"):
        ResidualAttention(8, depth=-1)
