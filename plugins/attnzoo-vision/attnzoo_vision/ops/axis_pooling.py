"""Means and maxima over some axes of a feature map, quick in both memory layouts.

A reduction over H or W of a channels-last map reads memory across its grain, 10 to 70 times slower than a plain read.
These functions reduce a flat view in which the axis is not the innermost one. Results equal the plain reductions within
rounding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.compiling import runs_plainly, settled
from attnzoo_vision.ops.layout import channels_last_view
from attnzoo_vision.ops.pooling import global_max


def mean_over(x: Tensor, dim: int | tuple[int, ...], *, keepdim: bool = False) -> Tensor:
    """Return the mean over ``dim`` as sum / count: its gradient is a view, where that of ``mean`` is a written map."""
    if x.dtype == torch.float16:  # a sum could overflow
        return x.mean(dim, keepdim=keepdim)
    count = 1
    for axis in (dim,) if isinstance(dim, int) else dim:
        count *= x.shape[axis]
    return x.sum(dim, keepdim=keepdim) / count


def mean_over_height(x_nchw: Tensor) -> Tensor:
    """Return the mean over H, ``(N, C, W)``."""
    view_nhwc = channels_last_view(x_nchw)
    if view_nhwc is None:
        return mean_over(x_nchw, 2)
    n, h, w, c = view_nhwc.shape
    return settled(mean_over(view_nhwc.view(n, h, w * c), 1).view(n, w, c)).transpose(1, 2)


def mean_over_width(x_nchw: Tensor) -> Tensor:
    """Return the mean over W, ``(N, C, H)``."""
    view_nhwc = channels_last_view(x_nchw)
    if view_nhwc is None:
        return mean_over(x_nchw, 3)
    n, h, w, c = view_nhwc.shape
    return settled(mean_over(view_nhwc.view(n * h, w, c), 1).view(n, h, c)).transpose(1, 2)


def max_over_pixels(x_nchw: Tensor) -> Tensor:
    """Return the maximum over H and W, ``(N, C)``."""
    if not _tracked(x_nchw):
        return global_max(x_nchw)
    if channels_last_view(x_nchw) is not None:  # the gradient of a pooling writes to the places alone
        return F.adaptive_max_pool2d(x_nchw, 1).flatten(1)
    return _max(x_nchw.flatten(2), 2) if x_nchw.is_contiguous() else x_nchw.amax((2, 3))


def max_over_height(x_nchw: Tensor) -> Tensor:
    """Return the maximum over H, ``(N, C, W)``."""
    view_nhwc = channels_last_view(x_nchw)
    if view_nhwc is not None:
        n, h, w, c = view_nhwc.shape
        return _max(view_nhwc.view(n, h, w * c), 1).view(n, w, c).transpose(1, 2)
    return _max(x_nchw, 2) if _plain(x_nchw) else _halving_max(x_nchw, 2)


def max_over_width(x_nchw: Tensor) -> Tensor:
    """Return the maximum over W, ``(N, C, H)``."""
    view_nhwc = channels_last_view(x_nchw)
    if view_nhwc is not None:
        n, h, w, c = view_nhwc.shape
        return _max(view_nhwc.view(n * h, w, c), 1).view(n, h, c).transpose(1, 2)
    return _max(x_nchw, 3) if _plain(x_nchw) else _halving_max(x_nchw, 3)


def max_over_channels(x_nchw: Tensor) -> Tensor:
    """Return the maximum over C, ``(N, 1, H, W)``."""
    view_nhwc = channels_last_view(x_nchw)
    if view_nhwc is not None:
        return _max(view_nhwc, 3).unsqueeze(1)
    n, c, h, w = x_nchw.shape
    if _plain(x_nchw) or not x_nchw.is_contiguous() or c < 64 or c % 8:
        return _max(x_nchw, 1).unsqueeze(1)
    # in two stages the running maximum stays in cache
    return x_nchw.view(n, 8, c // 8, h * w).amax(1).amax(1).view(n, 1, h, w)


def _plain(x: Tensor) -> bool:
    """Return whether the one-operator form is to be used: under autograd, compilers and transforms, on a GPU."""
    return torch.is_grad_enabled() or not runs_plainly() or x.device.type != "cpu"


def _tracked(x: Tensor) -> bool:
    """Return whether a gradient of ``x`` will be asked for by eager autograd on a CPU."""
    return torch.is_grad_enabled() and x.requires_grad and runs_plainly() and x.device.type == "cpu"


def _max(x: Tensor, dim: int) -> Tensor:
    """Return the maximum over ``dim``; the gradient through indices writes less than that of ``amax``."""
    return x.max(dim).values if _tracked(x) else x.amax(dim)


def _halving_max(x: Tensor, dim: int) -> Tensor:
    """Return ``x.amax(dim)`` by halving the axis: every step is one vectorised maximum of two slices."""
    size = x.shape[dim]
    while size > 1:
        half = size // 2
        larger = torch.maximum(x.narrow(dim, 0, half), x.narrow(dim, half, half))
        if size % 2:
            first = larger.narrow(dim, 0, 1)
            torch.maximum(first, x.narrow(dim, size - 1, 1), out=first)
        x, size = larger, half
    return x.squeeze(dim)
