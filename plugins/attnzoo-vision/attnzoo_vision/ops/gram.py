"""Products of all pairs of channels of a map."""

from typing import Any

import torch
from torch import Tensor

from attnzoo_vision.ops.compiling import may_specialise
from attnzoo_vision.ops.float16 import in_float32
from attnzoo_vision.ops.layout import is_channels_last


def gram(x_ncl: Tensor) -> Tensor:
    """Return ``x x^T``, ``(N, C, C)``, in float32 where it would be a product in float16, whose sums overflow.

    The gradient takes one product of that size instead of two.
    """
    return in_float32(_gram, x_ncl)


def _gram(x_ncl: Tensor) -> Tensor:
    tracked = torch.is_grad_enabled() and x_ncl.requires_grad and may_specialise(x_ncl)
    # for few pixels, the sum of two gradients of that size would cost more than the product
    if not tracked or x_ncl.shape[2] < x_ncl.shape[1]:
        return torch.bmm(x_ncl, x_ncl.transpose(1, 2))
    product_ncc: Tensor = _Gram.apply(x_ncl)  # type: ignore[no-untyped-call]
    return product_ncc


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(x_ncl: Tensor) -> Tensor:
        return torch.bmm(x_ncl, x_ncl.transpose(1, 2))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_ncc: Tensor) -> Tensor:
        (x_ncl,) = ctx.saved_tensors
        sum_ncc = (grad_ncc + grad_ncc.transpose(1, 2)).to(x_ncl.dtype)
        if is_channels_last(x_ncl):  # the gradient lies as the map does
            return torch.bmm(x_ncl.transpose(1, 2), sum_ncc).transpose(1, 2)
        return torch.bmm(sum_ncc, x_ncl)
