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


@pytest.mark.parametrize("size", [(2, 2), (2, 7), (3, 5), (6, 8), (13, 12)])
def test_without_padding_the_pooling_is_that_of_caffe(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = ResidualAttention(8, depth=1, pool_padding=0).double().eval()
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    u = block.first(x)
    trunk = block.trunk(u)
    pooled = torch.nn.MaxPool2d(3, 2, ceil_mode=True)(u)
    top = F.interpolate(block.bottom(pooled), size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(block(x), block.last(trunk * (1 + torch.sigmoid(block.mask(top)))))


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (4, 1), (1, 9)])
def test_without_padding_a_side_of_one_pixel_is_pooled_to_itself(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = ResidualAttention(8, depth=3, pool_padding=0).eval()
    x = torch.randn(2, 8, *size)
    long = max(size)
    windows = [x.flatten(2)[:, :, start : start + 3].amax(2) for start in range(0, max(long - 1, 1), 2)]
    torch.testing.assert_close(block._halved(x).flatten(2), torch.stack(windows, dim=2))
    assert block(x).shape == x.shape


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_without_padding_a_trace_holds_for_larger_maps() -> None:
    torch.manual_seed(0)
    block = ResidualAttention(8, depth=2, pool_padding=0).eval()
    x = torch.randn(2, 8, 9, 8)
    with torch.no_grad():
        traced = torch.jit.trace(block, x[:, :, :6, :5])
        torch.testing.assert_close(traced(x), block(x))


def test_an_unknown_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="ResidualAttention: pool_padding=2 is not known; use one of 0, 1"):
        ResidualAttention(8, pool_padding=2)


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
