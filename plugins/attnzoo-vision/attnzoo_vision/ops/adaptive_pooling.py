"""Adaptive mean pooling, which compilers take apart into windows of unequal sizes."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.compiling import compiled_for_cpu


def adaptive_mean(x_nchw: Tensor, height: int, width: int) -> Tensor:
    """Return ``F.adaptive_avg_pool2d(x, (height, width))``."""
    y_nchw: Tensor = (_operator if compiled_for_cpu(x_nchw) else _mean)(x_nchw, height, width)
    return y_nchw


def _mean(x_nchw: Tensor, height: int, width: int) -> Tensor:
    return F.adaptive_avg_pool2d(x_nchw, (height, width))


def _mean_backward(grad_nchw: Tensor, x_nchw: Tensor) -> Tensor:
    x_grad_nchw: Tensor = torch.ops.aten._adaptive_avg_pool2d_backward(grad_nchw, x_nchw)
    return x_grad_nchw


# fake tensors tell the shapes by the same calls
_operator = torch.library.custom_op("attnzoo_vision::adaptive_mean", _mean, mutates_args=())
_operator.register_fake(_mean)
_backward_operator = torch.library.custom_op("attnzoo_vision::adaptive_mean_backward", _mean_backward, mutates_args=())
_backward_operator.register_fake(_mean_backward)


def _save(ctx: Any, inputs: tuple[Tensor, int, int], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


def _gradient(ctx: Any, grad_nchw: Tensor) -> tuple[Tensor, None, None]:
    return _backward_operator(grad_nchw, ctx.saved_tensors[0]), None, None


_operator.register_autograd(_gradient, setup_context=_save)
