"""Windows over the channel axis, for filters that treat the channels as a signal."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_vision.ops.compiling import compiled_for_cpu, settled
from attnzoo_vision.ops.convolution import convolve, is_same


def adaptive_kernel_size(channels: int, *, gamma: float = 2.0, offset: float = 1.0) -> int:
    """Return the number of taps by ECA's rule: ``|log2(C) + offset| / gamma``, cut off, made odd."""
    taps = int(abs(math.log2(channels) + offset) / gamma)
    return taps if taps % 2 else taps + 1


def check_circular(block: str, channels: int, kernel_size: int) -> None:
    """Raise ValueError if the kernel, laid around the channels, would reach beyond the other end."""
    if kernel_size // 2 > channels:
        most = 2 * channels + 1
        message = f"{block}: kernel_size={kernel_size} goes round {channels} channels more than once"
        raise ValueError(f"{message}; use {most} or less")


def filter_by(layer: nn.Module, x_nc: Tensor) -> Tensor:
    """Return ``layer``, a convolution of one signal, of the channels, by `filter_channels` if that is all it does.

    A convolution of one channel costs ten times as much.
    """
    if not is_same(layer):
        return convolve(layer, x_nc.unsqueeze(1)).squeeze(1)
    y_nc, bias_1 = filter_channels(x_nc, layer.weight.flatten()), layer.bias
    return y_nc if bias_1 is None else y_nc + bias_1


def filter_channels(x_nc: Tensor, weight: Tensor, *, circular: str = "") -> Tensor:
    """Return the correlation of the channels with a kernel ``(K,)``, or one for each channel ``(C, K)``; K is odd.

    Beyond the ends are zeros, or the other end for a block whose name is given as ``circular``.

    Raises:
        ValueError: A circular kernel reaches beyond the other end.
    """
    size, channels = weight.shape[-1], x_nc.shape[1]
    half = size // 2
    if circular:
        check_circular(circular, channels, size)
        wide_nc = torch.cat([x_nc[:, channels - half :], x_nc, x_nc[:, :half]], dim=1)
    else:
        wide_nc = F.pad(x_nc, (half, half))
    if compiled_for_cpu(x_nc):  # windows would be read number by number
        wide_nc = settled(wide_nc)
        first, *rest = (wide_nc[:, k : k + channels] * weight[..., k] for k in range(size))
        return sum(rest, first)
    window_nck = wide_nc.unfold(1, size, 1)
    return window_nck @ weight if weight.dim() == 1 else (window_nck * weight).sum(dim=2)
