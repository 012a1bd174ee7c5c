"""Pooling over all pixels, each in the form that is quickest for the layout and the mode."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.compiling import compiled_for_cpu


def global_mean(x_nchw: Tensor) -> Tensor:
    """Return the mean over all pixels, ``(N, C)``.

    A sum divided by a number has a view as its gradient where ``mean`` writes a whole map; half precision keeps
    ``mean``, whose sum cannot overflow.
    """
    height, width = x_nchw.shape[-2:]
    trained = torch.is_grad_enabled() and x_nchw.requires_grad
    if not trained and is_channels_last(x_nchw) and not torch.compiler.is_exporting():
        return _mean_operator(x_nchw) if compiled_for_cpu(x_nchw) else _mean_by_pooling(x_nchw)
    if x_nchw.dtype is not torch.float16 and (trained or torch.compiler.is_compiling()):
        return x_nchw.sum(dim=(2, 3)) / (height * width)
    return x_nchw.mean(dim=(2, 3))


def _mean_by_pooling(x_nchw: Tensor) -> Tensor:
    return F.avg_pool2d(x_nchw, x_nchw.shape[2:]).flatten(1)


# as an operator of torch it stays what it is; a compiler would read every line of memory twice
_mean_operator = torch.library.custom_op(
    "attnzoo_vision::mean_by_pooling", _mean_by_pooling, mutates_args=(), device_types="cpu"
)


@_mean_operator.register_fake
def _mean_like(x_nchw: Tensor) -> Tensor:
    return x_nchw.new_empty(x_nchw.shape[:2])


def global_max(x_nchw: Tensor) -> Tensor:
    """Return the maximum over all pixels, ``(N, C)``."""
    return x_nchw.amax(dim=(2, 3))


def mean_max(x_nchw: Tensor) -> Tensor:
    """Return the mean of :func:`global_mean` and :func:`global_max`, ``(N, C)``."""
    return 0.5 * (global_mean(x_nchw) + global_max(x_nchw))


def square_sum(x_nchw: Tensor) -> Tensor:
    """Return the sum of squares over all pixels, ``(N, C)``.

    The quick kernel has no gradient at zero and no form for channels-last; it is for inference alone.
    """
    trained = torch.is_grad_enabled() and x_nchw.requires_grad
    half = x_nchw.dtype in (torch.float16, torch.bfloat16)
    if trained or half or torch.compiler.is_compiling() or is_channels_last(x_nchw):
        return (x_nchw * x_nchw).sum(dim=(2, 3))
    norm_nc: Tensor = torch.linalg.vector_norm(x_nchw, dim=(2, 3))
    return norm_nc.square()


def is_channels_last(x_nchw: Tensor) -> bool:
    """Say whether the channels of ``x_nchw`` lie innermost in memory, and the pixels do not."""
    return x_nchw.is_contiguous(memory_format=torch.channels_last) and not x_nchw.is_contiguous()
