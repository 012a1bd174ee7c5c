"""Windows over the channel axis, for filters that treat the channels as a signal."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.compiling import compiled_for_cpu, settled


def adaptive_kernel_size(channels: int, *, gamma: float = 2.0, offset: float = 1.0) -> int:
    """Return the number of taps by ECA's rule: ``|log2(C) + offset| / gamma``, cut off, made odd."""
    taps = int(abs(math.log2(channels) + offset) / gamma)
    return taps if taps % 2 else taps + 1


def filter_channels(x_nc: Tensor, weight: Tensor, *, circular: bool = False) -> Tensor:
    """Return the correlation of the channels with a kernel ``(K,)``, or one for each channel ``(C, K)``; K is odd.

    Beyond the ends are zeros, or the other end if ``circular``.

    Raises:
        ValueError: A circular kernel reaches beyond the other end.
    """
    size, channels = weight.shape[-1], x_nc.shape[1]
    half = size // 2
    if circular:
        if half > channels:
            message = f"kernel_size={size} goes round {channels} channels more than once; take up to {2 * channels + 1}"
            raise ValueError(message)
        wide_nc = torch.cat([x_nc[:, channels - half :], x_nc, x_nc[:, :half]], dim=1)
    else:
        wide_nc = F.pad(x_nc, (half, half))
    if compiled_for_cpu(x_nc):  # windows would be read number by number
        wide_nc = settled(wide_nc)
        first, *rest = (wide_nc[:, k : k + channels] * weight[..., k] for k in range(size))
        return sum(rest, first)
    window_nck = wide_nc.unfold(1, size, 1)
    return window_nck @ weight if weight.dim() == 1 else (window_nck * weight).sum(dim=2)
