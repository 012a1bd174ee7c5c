"""Sums of squares over all pixels of a map that is then scaled, with one pass over the map in the backward step."""

from typing import Any

import torch
from torch import Tensor

from attnzoo_vision.ops.compiling import runs_plainly
from attnzoo_vision.ops.layout import is_channels_last
from attnzoo_vision.ops.pooling import square_sum


def square_sum_and_map(x_nchw: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of squares, ``(N, C)``, and the map itself, of which only products may be taken.

    The gradient of the sums is added in place to that of the map, which a product makes anew.
    """
    tracked = torch.is_grad_enabled() and x_nchw.requires_grad and runs_plainly()
    dense = x_nchw.is_contiguous() or is_channels_last(x_nchw)
    if not (tracked and dense and x_nchw.device.type == "cpu" and x_nchw.dtype in (torch.float32, torch.float64)):
        return square_sum(x_nchw), x_nchw
    sum_nc, same_nchw = _SquareSum.apply(x_nchw)  # type: ignore[no-untyped-call]
    return sum_nc, same_nchw


class _SquareSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_nchw: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x_nchw)
        return square_sum(x_nchw.detach()), x_nchw

    @staticmethod
    def backward(ctx: Any, sum_grad_nc: Tensor | None, grad_nchw: Tensor | None) -> Tensor | None:
        x_nchw: Tensor = ctx.saved_tensors[0]
        if sum_grad_nc is None:
            return grad_nchw
        slope_nc11 = 2 * sum_grad_nc[:, :, None, None]
        if grad_nchw is None:
            return slope_nc11 * x_nchw
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            return grad_nchw + slope_nc11 * x_nchw
        return grad_nchw.addcmul_(x_nchw, slope_nc11)
