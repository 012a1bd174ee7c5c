"""Frames of clips that lie one behind the other in the batch, and filters along time."""

import torch
from torch import Tensor


def to_clips(x_fchw: Tensor, num_frames: int, name: str) -> Tensor:
    """Return ``(N, T, C, H, W)``, a view of ``N * T`` frames.

    Raises:
        ValueError: The batch is not a multiple of ``num_frames``.
    """
    frames = x_fchw.shape[0]
    if frames % num_frames:
        message = f"{name}: the input has {frames} frames, expected a multiple of num_frames={num_frames}"
        raise ValueError(message)
    return x_fchw.view(frames // num_frames, num_frames, *x_fchw.shape[1:])


def filter_frames(x_ntchw: Tensor, taps: list[Tensor]) -> Tensor:
    """Return the correlation along time of ``x_ntchw`` with ``taps``, frames before and behind the clip being zero.

    Tap ``k`` multiplies the frame ``k - len(taps) // 2`` steps later and has a shape that broadcasts to
    ``(N, T, C, H, W)``. Sums of shifted frames need no transposed copy of the clip, as a convolution along time does.
    """
    frames, centre = x_ntchw.shape[1], len(taps) // 2
    y_ntchw = x_ntchw * taps[centre]
    for k, tap in enumerate(taps):
        shift = k - centre
        if shift and abs(shift) < frames:
            target = slice(max(0, -shift), frames - max(0, shift))
            source = slice(max(0, shift), frames + min(0, shift))
            here = tap[:, target] if tap.shape[1] > 1 else tap
            y_ntchw[:, target].addcmul_(x_ntchw[:, source], here)
    return y_ntchw


def window_sums(x_nchw: Tensor) -> Tensor:
    """Return what each tap of a zero-padded 3x3 convolution sees in all, ``(N, C, 3, 3)``.

    Entry ``(dy, dx)`` is the sum over the pixels that this tap is laid on: all but the last row (``dy = 0``) or the
    first one (``dy = 2``), and columns likewise. The sum over pixels of a depthwise 3x3 convolution is the product of
    these with its weight.
    """
    columns_nchd = _windows(x_nchw)
    return _windows(columns_nchd.transpose(2, 3)).transpose(2, 3)


def _windows(x_nchw: Tensor) -> Tensor:
    total_nch = x_nchw.sum(dim=-1)
    return torch.stack((total_nch - x_nchw[..., -1], total_nch, total_nch - x_nchw[..., 0]), dim=-1)
