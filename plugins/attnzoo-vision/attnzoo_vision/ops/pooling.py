"""Pooling over all pixels, each in the form that is quickest for the layout and the mode."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.compiling import compiled_for_cpu, runs_plainly, settled
from attnzoo_vision.ops.layout import is_channels_last

_CACHED = 1 << 23  # bytes of a channels-last map from which windows are read more quickly than sums of columns
_SQUARED = 1 << 22  # bytes of such a map from which its squares are left in a cache sample by sample only
_FEW = 64  # pixels up to which an operator's call costs more than what a compiler makes of the sum


def global_mean(x_nchw: Tensor) -> Tensor:
    """Return the mean over all pixels, ``(N, C)``.

    A sum divided by a number has a view as its gradient where ``mean`` writes a whole map; half precision keeps
    ``mean``, whose sum cannot overflow.
    """
    if compiled_for_cpu(x_nchw) and (torch.is_grad_enabled() or x_nchw.shape[2] * x_nchw.shape[3] > _FEW):
        mean_nc: Tensor = _mean_operator(x_nchw)
        return mean_nc
    if torch.is_grad_enabled() and x_nchw.requires_grad and x_nchw.dtype is not torch.float16:
        return x_nchw.sum(dim=(2, 3)) / (x_nchw.shape[2] * x_nchw.shape[3])
    return x_nchw.mean(dim=(2, 3)) if torch.compiler.is_compiling() else _mean(x_nchw)


def _mean(x_nchw: Tensor) -> Tensor:
    if is_channels_last(x_nchw) and _bytes(x_nchw) > _CACHED:
        return F.avg_pool2d(x_nchw, x_nchw.shape[2:]).flatten(1)
    return x_nchw.mean(dim=(2, 3))


# as an operator of torch it stays what it is; a compiler would read every line of a channels-last map twice, and sum a
# contiguous one in a single chain of additions
_mean_operator = torch.library.custom_op("attnzoo_vision::global_mean", _mean, mutates_args=())


@_mean_operator.register_fake
def _mean_like(x_nchw: Tensor) -> Tensor:
    return x_nchw.new_empty(x_nchw.shape[:2])


def _mean_gradient(ctx: Any, grad_nc: Tensor) -> Tensor:
    pixel_grad_nc: Tensor = settled(grad_nc / (ctx.shape[2] * ctx.shape[3]))
    return pixel_grad_nc[:, :, None, None].expand(ctx.shape)


def _save_shape(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.shape = inputs[0].shape


_mean_operator.register_autograd(_mean_gradient, setup_context=_save_shape)


def global_max(x_nchw: Tensor) -> Tensor:
    """Return the maximum over all pixels, ``(N, C)``."""
    if compiled_for_cpu(x_nchw) and not torch.is_grad_enabled():
        max_nc: Tensor = _max_operator(x_nchw)
        return max_nc
    return x_nchw.amax(dim=(2, 3))


# a compiler compares vector with vector in a single chain
@torch.library.custom_op("attnzoo_vision::global_max", mutates_args=())
def _max_operator(x_nchw: Tensor) -> Tensor:
    return x_nchw.amax(dim=(2, 3))


_max_operator.register_fake(_mean_like)


def mean_max(x_nchw: Tensor) -> Tensor:
    """Return the mean of :func:`global_mean` and :func:`global_max`, ``(N, C)``."""
    return 0.5 * (global_mean(x_nchw) + global_max(x_nchw))


def square_sum(x_nchw: Tensor) -> Tensor:
    """Return the sum of squares over all pixels, ``(N, C)``, of half precision in float32, which it may overflow.

    The quick kernel has no gradient at zero and no form for channels-last; it is for inference alone.
    """
    x_nchw = widen(x_nchw)
    quick = runs_plainly() and not (torch.is_grad_enabled() and x_nchw.requires_grad)
    if quick and not is_channels_last(x_nchw):
        norm_nc: Tensor = torch.linalg.vector_norm(x_nchw, dim=(2, 3))
        return norm_nc.square()
    if quick and _bytes(x_nchw) > _SQUARED:
        return torch.stack([(x_chw * x_chw).sum(dim=(1, 2)) for x_chw in x_nchw])
    return (x_nchw * x_nchw).sum(dim=(2, 3))


def widen(x: Tensor) -> Tensor:
    """Return ``x`` in float32 if it is of half precision, else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()
