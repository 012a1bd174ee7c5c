"""Points that an affine matrix sends the pixels of a map to, and reading a map there."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.tokens import is_channels_last


def affine_grid(theta_n23: Tensor, height: int, width: int, *, align_corners: bool) -> Tensor:
    """Return the points (x, y) of a grid of ``height`` by ``width`` under ``theta_n23``, ``(N, height, width, 2)``."""
    x_w1 = _coordinates(width, theta_n23, align_corners)[:, None]
    y_h11 = _coordinates(height, theta_n23, align_corners)[:, None, None]
    column_n112 = theta_n23.transpose(1, 2)[:, None, None]
    return torch.addcmul(y_h11 * column_n112[..., 1, :] + column_n112[..., 2, :], x_w1, column_n112[..., 0, :])


def sample(x_nchw: Tensor, grid_nij2: Tensor, mode: str, padding_mode: str, align_corners: bool) -> Tensor:
    """Return the values of ``x_nchw`` at the points of the grid, in the memory layout of ``x_nchw``."""
    y_ncij = F.grid_sample(x_nchw, grid_nij2.to(x_nchw.dtype), mode, padding_mode, align_corners)
    return y_ncij.contiguous(memory_format=torch.channels_last) if is_channels_last(x_nchw) else y_ncij


def _coordinates(length: int, like: Tensor, align_corners: bool) -> Tensor:
    """Return ``length`` evenly spaced centres of pixels; the first and last pixel end at, or lie on, -1 and 1."""
    if length == 1:
        return like.new_zeros(1)
    line = torch.linspace(-1, 1, length, dtype=like.dtype, device=like.device)
    return line if align_corners else line * ((length - 1) / length)
