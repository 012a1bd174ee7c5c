"""Merged windows and their application: the definition written out, and gradients of both orders."""

import pytest
import torch

from attnzoo_vision.ops.window_filters import apply_filters, merge_windows


@pytest.mark.parametrize(("size", "height", "width"), [(3, 4, 5), (3, 1, 2), (5, 2, 3)])
def test_merged_windows_hold_the_sum_of_all_windows_over_a_pixel(size, height, width):
    torch.manual_seed(0)
    weight = torch.randn(2, 1, size, size, size, size, height, width, dtype=torch.float64)
    expected = torch.zeros(2, 1, 2 * size - 1, 2 * size - 1, height, width, dtype=torch.float64)
    for y in range(height):  # the pixel that is written
        for x in range(width):
            for i in range(size):
                for j in range(size):
                    row, column = y - i + size // 2, x - j + size // 2  # the window's pixel
                    if 0 <= row < height and 0 <= column < width:
                        for a in range(size):
                            for b in range(size):
                                value = weight[:, :, i, j, a, b, row, column]
                                expected[:, :, size - 1 - i + a, size - 1 - j + b, y, x] += value
    torch.testing.assert_close(merge_windows(weight), expected)


def test_merging_has_its_transpose_as_gradient_of_both_orders():
    weight = torch.randn(1, 2, 3, 3, 3, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(merge_windows, weight)
    assert torch.autograd.gradgradcheck(merge_windows, weight)


def test_filters_are_applied_at_their_shifts_with_gradients_of_both_orders():
    torch.manual_seed(0)
    shifts = [0, 1, 3]
    value = torch.randn(2, 2, 3, 8, dtype=torch.float64, requires_grad=True)
    filters = torch.randn(2, 2, 3, 5, dtype=torch.float64, requires_grad=True)
    expected = sum(value[..., s : s + 5] * filters[:, :, t, None] for t, s in enumerate(shifts))
    torch.testing.assert_close(apply_filters(value, filters, shifts), expected)
    assert torch.autograd.gradcheck(lambda v, f: apply_filters(v, f, shifts), (value, filters))
    assert torch.autograd.gradgradcheck(lambda v, f: apply_filters(v, f, shifts), (value, filters))
