"""Resizing of maps by an operator that compilers for a CPU leave as it is.

Such a compiler reads the neighbours of a pixel number by number, and spreads the gradient to them so too: in an
hourglass of channels-last maps a seventh of the time of a step.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.compiling import compiled_for_cpu
from attnzoo_vision.ops.layout import in_layout_of

_aten = torch.ops.aten


def resize(
    x_nchw: Tensor,
    size: Sequence[int],
    mode: Literal["bilinear", "nearest"] = "bilinear",
    *,
    align_corners: bool = True,
) -> Tensor:
    """Return ``F.interpolate`` of a map to another size; ``align_corners`` is for ``bilinear``."""
    if compiled_for_cpu(x_nchw) and not _is_fused(x_nchw, mode):
        y_nchw: Tensor = _operator(x_nchw, list(size), mode, align_corners)
        return y_nchw
    return F.interpolate(x_nchw, list(size), mode=mode, align_corners=align_corners if mode == "bilinear" else None)


def _is_fused(x_nchw: Tensor, mode: str) -> bool:
    """Say whether the compiler does well: pixels of contiguous maps that it repeats in the product with another map."""
    return mode == "nearest" and not torch.is_grad_enabled() and x_nchw.is_contiguous()


def _resized(x_nchw: Tensor, size: list[int], mode: str, align_corners: bool) -> Tensor:
    if mode == "nearest":
        y_nchw: Tensor = _aten.upsample_nearest2d.default(x_nchw, size)
    else:
        y_nchw = _aten.upsample_bilinear2d.default(x_nchw, size, align_corners)
    return y_nchw


_operator = torch.library.custom_op("attnzoo_vision::resize", _resized, mutates_args=())


@_operator.register_fake
def _resized_like(x_nchw: Tensor, size: list[int], _mode: str, align_corners: bool) -> Tensor:
    """Return what tells shape and layout; torch's own form of ``nearest`` does not for an empty batch."""
    return _resized(x_nchw, size, "bilinear", align_corners)


@torch.library.custom_op("attnzoo_vision::resize_backward", mutates_args=())
def _backward_operator(grad_nchw: Tensor, size: list[int], shape: list[int], mode: str, align_corners: bool) -> Tensor:
    if mode == "nearest":
        grad = _aten.upsample_nearest2d_backward.default(grad_nchw, size, shape)
    else:
        grad = _aten.upsample_bilinear2d_backward.default(grad_nchw, size, shape, align_corners)
    return in_layout_of(grad_nchw, grad)


@_backward_operator.register_fake
def _grad_like(grad_nchw: Tensor, _size: list[int], shape: list[int], *_: object) -> Tensor:
    return in_layout_of(grad_nchw, grad_nchw.new_empty(shape))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x_nchw, ctx.size, *ctx.options = inputs
    ctx.shape = list(x_nchw.shape)


def _gradient(ctx: Any, grad_nchw: Tensor) -> tuple[Tensor | None, ...]:
    return _backward_operator(grad_nchw, ctx.size, ctx.shape, *ctx.options), None, None, None


_operator.register_autograd(_gradient, setup_context=_save)
