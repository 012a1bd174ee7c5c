"""Windows over the channel axis, for filters that treat the channels as a signal."""

import math

import torch.nn.functional as F
from torch import Tensor


def adaptive_kernel_size(channels: int, *, gamma: float = 2.0, offset: float = 1.0) -> int:
    """Return the number of taps by ECA's rule: ``|log2(C) + offset| / gamma``, cut off, made odd."""
    taps = int(abs(math.log2(channels) + offset) / gamma)
    return taps if taps % 2 else taps + 1


def channel_windows(x_nc: Tensor, kernel_size: int, *, circular: bool = False) -> Tensor:
    """Return for each channel the window of neighbours around it, ``(N, C, kernel_size)``; zeros beyond the ends."""
    around = (kernel_size // 2, kernel_size // 2)
    if circular:
        return F.pad(x_nc.unsqueeze(1), around, mode="circular").squeeze(1).unfold(1, kernel_size, 1)
    return F.pad(x_nc, around).unfold(1, kernel_size, 1)
