"""Patches around the pixels of a map by an operator that compilers for a CPU leave as it is.

Such a compiler gathers them number by number, and once more for everything that is done with them.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.compiling import compiled_for_cpu


def unfold(x_nchw: Tensor, kernel_size: int) -> Tensor:
    """Return the patch around each pixel, zero outside the map, ``(N, H * W, C * kernel_size**2)``, of odd size."""
    columns_ndl: Tensor = (_operator if compiled_for_cpu(x_nchw) else _unfold)(x_nchw, kernel_size)
    return columns_ndl.transpose(1, 2)


def fold(patch_nld: Tensor, size: list[int], kernel_size: int) -> Tensor:
    """Return the sums of the patches, each around its pixel, ``(N, C, H, W)`` of ``size``."""
    columns_ndl = patch_nld.transpose(1, 2)
    y_nchw: Tensor = (_fold_operator if compiled_for_cpu(columns_ndl) else _fold)(columns_ndl, size, kernel_size)
    return y_nchw


def _unfold(x_nchw: Tensor, kernel_size: int) -> Tensor:
    return F.unfold(x_nchw, kernel_size, padding=kernel_size // 2)


def _fold(columns_ndl: Tensor, size: list[int], kernel_size: int) -> Tensor:
    return F.fold(columns_ndl, (size[0], size[1]), kernel_size, padding=kernel_size // 2)


# fake tensors tell the shapes by the same calls
_operator = torch.library.custom_op("attnzoo_vision::unfold", _unfold, mutates_args=())
_operator.register_fake(_unfold)
_fold_operator = torch.library.custom_op("attnzoo_vision::fold", _fold, mutates_args=())
_fold_operator.register_fake(_fold)


def _save(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
    ctx.size, ctx.kernel_size = list(inputs[0].shape[2:]), inputs[1]


def _gradient(ctx: Any, grad_ndl: Tensor) -> tuple[Tensor, None]:
    return _fold_operator(grad_ndl, ctx.size, ctx.kernel_size), None


def _save_fold(ctx: Any, inputs: tuple[Tensor, list[int], int], output: Tensor) -> None:
    ctx.kernel_size = inputs[2]


def _fold_gradient(ctx: Any, grad_nchw: Tensor) -> tuple[Tensor, None, None]:
    return _operator(grad_nchw, ctx.kernel_size), None, None


_operator.register_autograd(_gradient, setup_context=_save)
_fold_operator.register_autograd(_fold_gradient, setup_context=_save_fold)
