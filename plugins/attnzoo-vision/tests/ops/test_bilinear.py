"""Sums of rows against ``grid_sample``: values and gradients, points outside and points that are no numbers."""

import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.ops import bilinear, deformable
from attnzoo_vision.ops.affine_grid import sample
from attnzoo_vision.ops.bilinear import can_sum_rows

LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def wild_grid() -> torch.Tensor:
    """Return points inside, on the border, a pixel outside, far outside, and none."""
    grid = 1.3 * torch.randn(2, 9, 11, 2, dtype=torch.float64)
    grid[0, 0, :9, 0] = torch.tensor([-1.0, 1.0, -1.05, 1.05, 1e30, -1e30, torch.inf, -torch.inf, torch.nan])
    return grid


@LAYOUTS
@pytest.mark.parametrize("align_corners", [True, False])
def test_sums_of_rows_are_bilinear_samples(layout, align_corners):
    torch.manual_seed(0)
    x = torch.randn(2, 128, 10, 9, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    grid = wild_grid().requires_grad_()
    assert can_sum_rows(x)
    expected = F.grid_sample(x, grid, align_corners=align_corners)
    sampled = sample(x, grid, "bilinear", "zeros", align_corners)
    torch.testing.assert_close(sampled, expected, equal_nan=True)
    assert sampled.is_contiguous(memory_format=layout)
    with torch.no_grad():
        sampled = sample(x, grid, "bilinear", "zeros", align_corners)
    torch.testing.assert_close(sampled, expected, equal_nan=True)


@LAYOUTS
def test_sums_of_rows_have_the_gradients_of_bilinear_samples(layout):
    x = torch.randn(2, 128, 10, 9, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    grid = wild_grid()[1:].expand(2, -1, -1, -1).clone().requires_grad_()
    outputs = (F.grid_sample(x, grid, align_corners=True), sample(x, grid, "bilinear", "zeros", True))
    weight = torch.randn_like(outputs[0])
    theirs, ours = (torch.autograd.grad((y * weight).sum(), (x, grid)) for y in outputs)
    torch.testing.assert_close(ours, theirs)


def test_a_single_pixel_is_read_as_by_torch():
    x, grid = torch.randn(2, 64, 1, 1).contiguous(memory_format=torch.channels_last), torch.randn(2, 3, 4, 2)
    torch.testing.assert_close(sample(x, grid, "bilinear", "zeros", False), F.grid_sample(x, grid, align_corners=False))


def test_wide_heads_are_sampled_on_all_levels_at_once(monkeypatch):
    torch.manual_seed(0)
    sizes = [(5, 4), (2, 3)]
    value = torch.randn(2, 26, 3, 64, dtype=torch.float64, requires_grad=True)
    place = (1.4 * torch.rand(2, 7, 3, 2, 4, 2, dtype=torch.float64) - 0.2).requires_grad_()
    weight = torch.rand(2, 7, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    inputs = (value, place, weight)
    ours = deformable.sample_levels(value, sizes, place, weight)
    monkeypatch.setattr(bilinear, "_WIDE", 65)
    plain = deformable.sample_levels(value, sizes, place, weight)
    torch.testing.assert_close(ours, plain)
    grad = torch.randn_like(plain)
    for mine, theirs in zip(
        torch.autograd.grad(ours, inputs, grad), torch.autograd.grad(plain, inputs, grad), strict=True
    ):
        torch.testing.assert_close(mine, theirs)
