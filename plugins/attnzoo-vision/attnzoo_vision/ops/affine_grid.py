"""Points that an affine matrix sends the pixels of a map to, and reading a map there."""

import torch
from torch import Tensor

from attnzoo_vision.ops.bilinear import can_sum_rows, corners, sum_rows
from attnzoo_vision.ops.grid_sample import grid_sample
from attnzoo_vision.ops.layout import in_layout_of, is_channels_last


def affine_grid(theta_n23: Tensor, height: int, width: int, *, align_corners: bool) -> Tensor:
    """Return the points (x, y) of a grid of ``height`` by ``width`` under ``theta_n23``, ``(N, height, width, 2)``."""
    x_w1 = _coordinates(width, theta_n23, align_corners)[:, None]
    y_h11 = _coordinates(height, theta_n23, align_corners)[:, None, None]
    column_n112 = theta_n23.transpose(1, 2)[:, None, None]
    return torch.addcmul(y_h11 * column_n112[..., 1, :] + column_n112[..., 2, :], x_w1, column_n112[..., 0, :])


def sample(x_nchw: Tensor, grid_nij2: Tensor, mode: str, padding_mode: str, align_corners: bool) -> Tensor:
    """Return the values of ``x_nchw`` at the points of the grid, in the memory layout of ``x_nchw``."""
    grid_nij2 = grid_nij2.to(x_nchw.dtype)
    if mode == "bilinear" and padding_mode == "zeros" and _gains_by_rows(x_nchw) and can_sum_rows(x_nchw):
        y_ncij = sample_rows(x_nchw, grid_nij2, align_corners)
    else:
        y_ncij = grid_sample(x_nchw, grid_nij2, mode, padding_mode, align_corners=align_corners)
    return in_layout_of(x_nchw, y_ncij)


def _gains_by_rows(x_nchw: Tensor) -> bool:
    """Say whether sums of rows are quicker: contiguous maps must be turned, which pays where gradients are wanted."""
    if is_channels_last(x_nchw):
        return x_nchw.shape[1] >= 32
    return torch.is_grad_enabled() and x_nchw.shape[1] >= 128 and x_nchw.shape[2] * x_nchw.shape[3] > 64


def sample_rows(x_nchw: Tensor, grid_nij2: Tensor, align_corners: bool) -> Tensor:
    """Return the bilinear values of ``x_nchw`` at the points of the grid, channels-last."""
    samples, channels, height, width = x_nchw.shape
    x_nij, y_nij = (
        _in_pixels(line, size, align_corners) for line, size in zip(grid_nij2.unbind(-1), (width, height), strict=True)
    )
    index_nijk, weight_nijk = corners(x_nij, y_nij, height, width)
    first_n111 = torch.arange(0, samples * height * width, height * width, device=x_nchw.device)[:, None, None, None]
    table_rc = x_nchw.permute(0, 2, 3, 1).reshape(-1, channels)
    return sum_rows(table_rc, first_n111 + index_nijk, weight_nijk).permute(0, 3, 1, 2)


def _in_pixels(line: Tensor, size: int, align_corners: bool) -> Tensor:
    return (line + 1) * ((size - 1) / 2) if align_corners else ((line + 1) * size - 1) / 2


def _coordinates(length: int, like: Tensor, align_corners: bool) -> Tensor:
    """Return ``length`` evenly spaced centres of pixels; the first and last pixel end at, or lie on, -1 and 1."""
    if length == 1:
        return like.new_zeros(1)
    line = torch.linspace(-1, 1, length, dtype=like.dtype, device=like.device)
    return line if align_corners else line * ((length - 1) / length)
