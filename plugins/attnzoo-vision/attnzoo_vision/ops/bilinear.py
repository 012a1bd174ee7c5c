"""Bilinear reading of maps as weighted sums of rows, a pixel's channels being a row.

On a CPU the kernel for weighted sums of rows of a table reads many channels side by side two to five times as fast as
``grid_sample``, which reads number by number. A row of few channels it reads more slowly.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.compiling import may_specialise, runs_plainly
from attnzoo_vision.ops.differentiate import differentiate, is_last_gradient

_SUM = 0  # what torch calls the mode
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
    inputs = (table_rd, weight.flatten(0, -2), index.flatten(0, -2))
    if torch.is_grad_enabled() and runs_plainly():
        y_bd: Tensor = _SumRows.apply(*inputs)  # type: ignore[no-untyped-call]
    else:
        y_bd = _sum_rows(*inputs)
    return y_bd.view(*shape, table_rd.shape[1])


def _sum_rows(table_rd: Tensor, weight_bk: Tensor, index_bk: Tensor) -> Tensor:
    return F.embedding_bag(index_bk, table_rd, per_sample_weights=weight_bk, mode="sum")


def _sum_rows_plainly(table_rd: Tensor, weight_bk: Tensor, index_bk: Tensor) -> Tensor:
    return (table_rd[index_bk] * weight_bk.unsqueeze(-1)).sum(dim=1)


class _SumRows(torch.autograd.Function):
    """`_sum_rows`, of which torch has a gradient but not the gradient of that."""

    @staticmethod
    def forward(ctx: Any, table_rd: Tensor, weight_bk: Tensor, index_bk: Tensor) -> Tensor:
        ctx.save_for_backward(table_rd, weight_bk, index_bk)
        return _sum_rows(table_rd, weight_bk, index_bk)

    @staticmethod
    def backward(ctx: Any, grad_bd: Tensor) -> tuple[Tensor | None, ...]:
        table_rd, weight_bk, index_bk = ctx.saved_tensors
        if not is_last_gradient(grad_bd):
            plain = partial(_sum_rows_plainly, index_bk=index_bk)
            return *differentiate(plain, (table_rd, weight_bk), grad_bd), None
        grad_bd, index, (bags, size) = grad_bd.contiguous(), index_bk.flatten(), index_bk.shape
        bag = torch.arange(bags, device=index.device).repeat_interleave(size)
        table_grad = weight_grad = None
        if ctx.needs_input_grad[0]:
            sizes, largest = index.new_full((bags,), size), index.new_empty(0)
            options = (len(table_rd), False, _SUM, weight_bk.flatten(), -1)
            table_grad = torch.ops.aten._embedding_bag_dense_backward(grad_bd, index, bag, sizes, largest, *options)
        if ctx.needs_input_grad[1]:
            first = torch.arange(0, bags * size, size, device=index.device)
            weight_grad = torch.ops.aten._embedding_bag_per_sample_weights_backward(
                grad_bd, table_rd, index, first, bag, _SUM, -1
            ).view_as(weight_bk)
        return table_grad, weight_grad, None
