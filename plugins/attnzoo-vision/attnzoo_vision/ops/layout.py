"""The two memory layouts of maps: contiguous, and channels-last, in which the channels of a pixel lie side by side."""

import torch
from torch import Tensor


def is_channels_last(x_ncs: Tensor) -> bool:
    """Say whether the channels of ``x_ncs`` lie innermost in memory, and the pixels do not."""
    return not x_ncs.is_contiguous() and x_ncs.movedim(1, -1).is_contiguous()


def channels_last_view(x_nchw: Tensor) -> Tensor | None:
    """Return the contiguous ``(N, H, W, C)`` view of a channels-last map; None for other layouts and in exports."""
    if torch.compiler.is_exporting() or x_nchw.is_contiguous():
        return None
    view_nhwc = x_nchw.permute(0, 2, 3, 1)
    return view_nhwc if view_nhwc.is_contiguous() else None


def to_channels_last(x_nchw: Tensor) -> Tensor:
    """Return ``x_nchw`` channels-last, a copy where it is not.

    ``torch.func.vmap`` admits this form; it does not admit ``contiguous(memory_format=...)``.
    """
    return x_nchw.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def in_layout_of(like_nchw: Tensor, y_nchw: Tensor) -> Tensor:
    """Return ``y_nchw`` channels-last where ``like_nchw`` is, contiguous else."""
    return to_channels_last(y_nchw) if is_channels_last(like_nchw) else y_nchw.contiguous()


def interleave(a_nchw: Tensor, b_nchw: Tensor) -> Tensor:
    """Return ``(N, 2C, H, W)``: a channel of ``a_nchw``, one of ``b_nchw``, and so on; channels-last where both are."""
    a_nhwc, b_nhwc = channels_last_view(a_nchw), channels_last_view(b_nchw)
    if a_nhwc is None or b_nhwc is None or torch.compiler.is_compiling():
        return torch.stack([a_nchw, b_nchw], dim=2).flatten(1, 2)
    return torch.stack([a_nhwc, b_nhwc], dim=4).flatten(3).permute(0, 3, 1, 2)


def with_usual_strides(x_ncs: Tensor) -> Tensor:
    """Return ``x_ncs``, contiguous or channels-last, its axes of size 1 with the strides of a new tensor.

    Such a stride has no meaning, and products of matrices leave any number there.
    """
    if is_channels_last(x_ncs):
        x_nsc = x_ncs.movedim(1, -1)
        return x_nsc.view(-1).view(x_nsc.shape).movedim(-1, 1)
    return x_ncs.contiguous().view(-1).view(x_ncs.shape)
