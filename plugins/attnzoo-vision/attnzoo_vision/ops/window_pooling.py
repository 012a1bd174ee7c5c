"""Means and maxima of windows by operators that compilers for a CPU leave as they are.

In training such a compiler asks of every pixel, number by number, which windows it is in, or which of them took it as
their maximum: five times the time of torch's pooling.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.compiling import compiled_for_cpu
from attnzoo_vision.ops.layout import in_layout_of

_aten = torch.ops.aten
_DILATION = [1, 1]


def avg_pool2d(
    x_nchw: Tensor,
    kernel_size: int | list[int],
    stride: int | list[int] | None = None,
    padding: int = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return ``F.avg_pool2d`` of a map."""
    kernel, step, pad = _sizes(kernel_size, stride, padding)
    if compiled_for_cpu(x_nchw) and torch.is_grad_enabled():
        y_nchw: Tensor = _avg_operator(x_nchw, kernel, step, pad, ceil_mode, count_include_pad)
        return y_nchw
    return F.avg_pool2d(x_nchw, kernel, step, pad, ceil_mode, count_include_pad)


def max_pool2d(
    x_nchw: Tensor,
    kernel_size: int | list[int],
    stride: int | list[int] | None = None,
    padding: int = 0,
    *,
    ceil_mode: bool = False,
) -> Tensor:
    """Return ``F.max_pool2d`` of a map."""
    kernel, step, pad = _sizes(kernel_size, stride, padding)
    if compiled_for_cpu(x_nchw) and torch.is_grad_enabled():
        y_nchw: Tensor = _max_operator(x_nchw, kernel, step, pad, ceil_mode)[0]
        return y_nchw
    return F.max_pool2d(x_nchw, kernel, step, pad, ceil_mode=ceil_mode)


def _sizes(kernel_size: int | list[int], stride: int | list[int] | None, padding: int) -> list[list[int]]:
    step = kernel_size if stride is None else stride
    return [[size, size] if isinstance(size, int) else size for size in (kernel_size, step, padding)]


def _means(
    x_nchw: Tensor, kernel: list[int], stride: list[int], padding: list[int], ceil_mode: bool, count_pad: bool
) -> Tensor:
    y_nchw: Tensor = _aten.avg_pool2d.default(x_nchw, kernel, stride, padding, ceil_mode, count_pad)
    return y_nchw


def _maxima(
    x_nchw: Tensor, kernel: list[int], stride: list[int], padding: list[int], ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    values, indices = _aten.max_pool2d_with_indices.default(x_nchw, kernel, stride, padding, _DILATION, ceil_mode)
    return values, indices


# fake tensors tell shape and layout by the same calls
_avg_operator = torch.library.custom_op("attnzoo_vision::avg_pool2d", _means, mutates_args=())
_avg_operator.register_fake(_means)
_max_operator = torch.library.custom_op("attnzoo_vision::max_pool2d", _maxima, mutates_args=())
_max_operator.register_fake(_maxima)


@torch.library.custom_op("attnzoo_vision::avg_pool2d_backward", mutates_args=())
def _avg_backward_operator(
    grad_nchw: Tensor,
    x_nchw: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    ceil_mode: bool,
    count_pad: bool,
) -> Tensor:
    sizes = (kernel, stride, padding)
    grad = _aten.avg_pool2d_backward.default(grad_nchw, x_nchw, *sizes, ceil_mode, count_pad, None)
    return in_layout_of(x_nchw, grad)


@torch.library.custom_op("attnzoo_vision::max_pool2d_backward", mutates_args=())
def _max_backward_operator(
    grad_nchw: Tensor,
    x_nchw: Tensor,
    indices: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    ceil_mode: bool,
) -> Tensor:
    sizes = (kernel, stride, padding, _DILATION)
    grad = _aten.max_pool2d_with_indices_backward.default(grad_nchw, x_nchw, *sizes, ceil_mode, indices)
    return in_layout_of(x_nchw, grad)


@_avg_backward_operator.register_fake
@_max_backward_operator.register_fake
def _grad_like(_grad_nchw: Tensor, x_nchw: Tensor, *_: object) -> Tensor:
    return in_layout_of(x_nchw, x_nchw.new_empty(x_nchw.shape))


def _save_avg(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x_nchw, *ctx.options = inputs
    ctx.save_for_backward(x_nchw)


def _save_max(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x_nchw, *ctx.options = inputs
    ctx.save_for_backward(x_nchw, output[1])
    ctx.mark_non_differentiable(output[1])


def _avg_gradient(ctx: Any, grad_nchw: Tensor) -> tuple[Tensor | None, ...]:
    return _avg_backward_operator(grad_nchw, *ctx.saved_tensors, *ctx.options), *(None for _ in ctx.options)


def _max_gradient(ctx: Any, grad_nchw: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return _max_backward_operator(grad_nchw, *ctx.saved_tensors, *ctx.options), *(None for _ in ctx.options)


_avg_operator.register_autograd(_avg_gradient, setup_context=_save_avg)
_max_operator.register_autograd(_max_gradient, setup_context=_save_max)
