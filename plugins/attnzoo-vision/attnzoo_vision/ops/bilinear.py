"""Bilinear reading of maps as weighted sums of rows, a pixel's channels being a row.

On a CPU the kernel for weighted sums of rows of a table reads many channels side by side two to five times as fast as
``grid_sample``, which reads number by number. A row of few channels it reads more slowly.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.compiling import may_specialise

_WIDE = 64  # channels from which a row is read more quickly than its numbers


def can_sum_rows(x: Tensor) -> bool:
    """Say whether `sum_rows` may be used for the values ``x``: on a CPU, in full precision."""
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or x.numel() == 0:
        return False
    return may_specialise(x) and x.dtype in (torch.float32, torch.float64)


def gains_by_rows(x: Tensor, channels: int) -> bool:
    """Say whether `sum_rows` may be used, and is quicker than ``grid_sample`` of maps in no order that suits it."""
    return channels >= _WIDE and can_sum_rows(x)


def corners(x: Tensor, y: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the pixels around points of a map, as numbers row by row, and their weights, ``(..., 4)`` each.

    Points are in pixels, 0 being the centre of the first. Pixels outside the map have the weight 0, those of points
    that are not finite have no number as their weight.
    """
    column, column_weight = _neighbours(x, width)
    row, row_weight = _neighbours(y, height)
    index = row.unsqueeze(-1) * width + column.unsqueeze(-2)
    weight = row_weight.unsqueeze(-1) * column_weight.unsqueeze(-2)
    return index.flatten(-2), weight.flatten(-2)


def _neighbours(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the two pixels around each point of a line, ``(..., 2)``, and their weights."""
    left = x.detach().floor()
    share = x - left
    pixel = torch.stack([left, left + 1], dim=-1)
    weight = torch.stack([1 - share, share], dim=-1) * ((pixel >= 0) & (pixel < size))
    return pixel.clamp(0, size - 1).nan_to_num(nan=0.0).long(), weight


def sum_rows(table_rd: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Return ``sum_k weight[..., k] * table[index[..., k]]``, ``(..., D)``."""
    shape = index.shape[:-1]
    y_bd = F.embedding_bag(index.flatten(0, -2), table_rd, per_sample_weights=weight.flatten(0, -2), mode="sum")
    return y_bd.view(*shape, table_rd.shape[1])
