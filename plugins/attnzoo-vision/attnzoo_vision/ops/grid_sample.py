"""Values of maps at points, read by one operator that compilers for a CPU leave as it is.

Such a compiler reads the neighbours of a point once more for every channel, three times as slowly.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.compiling import compiled_for_cpu

_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


def grid_sample(
    x_nchw: Tensor,
    grid_nij2: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    *,
    align_corners: bool = False,
) -> Tensor:
    """Return ``F.grid_sample`` of a map."""
    if compiled_for_cpu(x_nchw):
        options = (_MODES.index(mode), _PADDINGS.index(padding_mode), align_corners)
        y_ncij: Tensor = _operator(x_nchw, grid_nij2, *options)
        return y_ncij
    return F.grid_sample(x_nchw, grid_nij2, mode, padding_mode, align_corners)


@torch.library.custom_op("attnzoo_vision::grid_sample", mutates_args=())
def _operator(x_nchw: Tensor, grid_nij2: Tensor, mode: int, padding: int, align_corners: bool) -> Tensor:
    return torch.grid_sampler_2d(x_nchw, grid_nij2, mode, padding, align_corners).contiguous()


@torch.library.custom_op("attnzoo_vision::grid_sample_backward", mutates_args=())
def _backward_operator(
    grad_ncij: Tensor,
    x_nchw: Tensor,
    grid_nij2: Tensor,
    mode: int,
    padding: int,
    align_corners: bool,
    wanted: list[bool],
) -> list[Tensor]:
    options = (mode, padding, align_corners, wanted)
    grads = torch.ops.aten.grid_sampler_2d_backward(grad_ncij, x_nchw, grid_nij2, *options)
    return [grad.contiguous() for grad, has in zip(grads, wanted, strict=True) if has]


@_operator.register_fake
def _sampled_like(x_nchw: Tensor, grid_nij2: Tensor, *_: object) -> Tensor:
    return x_nchw.new_empty(*x_nchw.shape[:2], *grid_nij2.shape[1:3])


@_backward_operator.register_fake
def _grads_like(_grad: Tensor, x_nchw: Tensor, grid_nij2: Tensor, *rest: Any) -> list[Tensor]:
    return [t.new_empty(t.shape) for t, has in zip((x_nchw, grid_nij2), rest[-1], strict=True) if has]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x_nchw, grid_nij2, *ctx.options = inputs
    ctx.save_for_backward(x_nchw, grid_nij2)


def _gradient(ctx: Any, grad_ncij: Tensor) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad[:2])
    grads = iter(_backward_operator(grad_ncij, *ctx.saved_tensors, *ctx.options, wanted))
    return *(next(grads) if has else None for has in wanted), None, None, None


_operator.register_autograd(_gradient, setup_context=_save)
