"""Frequency Channel Attention (FcaNet)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.adaptive_pooling import adaptive_mean
from attnzoo_vision.ops.axis_pooling import mean_over
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_input
from attnzoo_vision.ops.compiling import compiled_for_cpu
from attnzoo_vision.ops.layout import channels_last_view

# (height, width) frequencies on a 7 x 7 grid in the authors' order; "top" by accuracy of each alone, "low" by frequency
_ORDERS = {
    "top": "00 01 60 05 02 10 12 40 50 16 30 04 06 03 35 22 46 63 33 53 55 21 61 52 54 32 31 41 23 20 65 13",
    "low": "00 01 10 11 02 20 21 12 22 03 30 40 04 13 31 05 14 23 32 41 50 06 15 24 33 42 51 60 16 25 34 43",
    "bot": "66 14 34 36 26 43 11 24 44 45 56 15 42 62 25 51 64 13 65 20 23 41 31 32 54 52 61 21 55 53 33 63",
}
_GRID = 7


class FCA(nn.Module):
    """Scale each channel by a weight computed from one frequency of each channel instead of its mean.

    ``y = x * sigmoid(W2 relu(W1 s))``, ``s_c = sum_hw(pool(x_c) * D_c)``, D_c a cosine of the 2-D DCT

    Args:
        channels: Channels of the input.
        dct_height: Height of the map that the frequencies are taken from; other inputs are pooled to it.
        dct_width: Width of that map.
        reduction: Divisor of ``channels`` that gives the number of hidden units.
        frequencies: Which frequencies and how many: ``top``, ``low`` or ``bot`` and a number from 1 to 32. The channels
            are cut into as many groups, one frequency each.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``channels`` is less than 1, ``frequencies`` is not known, its number does not divide
            ``channels``, ``reduction`` leaves no hidden unit, a side of the DCT is less than 7, or the input has other
            channels.

    Source:
        Qin et al., "FcaNet: Frequency Channel Attention Networks", ICCV 2021, arXiv:2012.11879, eq. 10-13.
        Authors' code: github.com/cfzd/FcaNet @ aa5fb63, model/layer.py.
        Deviations: a DCT smaller than 7 x 7, where theirs silently becomes all constant, is refused.
    """

    def __init__(
        self,
        channels: int,
        *,
        dct_height: int = 7,
        dct_width: int = 7,
        reduction: int = 16,
        frequencies: str = "top16",
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("FCA", 1, channels=channels, reduction=reduction)
        check_at_most("FCA", "reduction", reduction, "channels", channels)
        pairs = _frequency_pairs(frequencies)
        _check(channels, len(pairs), frequencies, dct_height, dct_width)
        self.squeeze = nn.Linear(channels, channels // reduction, bias=False)
        self.excite = nn.Linear(channels // reduction, channels, bias=False)
        self.pairs = pairs
        self.dct_basis: Tensor
        self.register_buffer("dct_basis", _basis(pairs, channels, dct_height, dct_width))

    def reset_parameters(self) -> None:
        """Draw both layers anew, as PyTorch does, and compute the frequencies."""
        reset_layers(self)
        self.dct_basis.copy_(_basis(self.pairs, *self.dct_basis.shape))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled by its weight in (0, 1)."""
        return x_nchw * self._weight(self._frequency(x_nchw))

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weights that :meth:`forward` multiplies with, and ``frequency``, their source."""
        frequency_nc = self._frequency(x_nchw)
        return {"channel": self._weight(frequency_nc), "frequency": frequency_nc[:, :, None, None]}

    def _frequency(self, x_nchw: Tensor) -> Tensor:
        check_input("FCA", x_nchw, self.channels)
        size = self.dct_basis.shape[1:]
        pooled_nchw = x_nchw if x_nchw.shape[2:] == size else _pool(x_nchw, size[0], size[1])
        pooled_nhwc = channels_last_view(pooled_nchw)
        if pooled_nhwc is None:
            return (pooled_nchw * self.dct_basis).sum(dim=(2, 3))
        return (pooled_nhwc * self.dct_basis.permute(1, 2, 0).contiguous()).sum(dim=(1, 2))

    def _weight(self, frequency_nc: Tensor) -> Tensor:
        hidden_nr = torch.relu(self.squeeze(frequency_nc))
        weight_nc = torch.sigmoid(self.excite(hidden_nr))
        return weight_nc[:, :, None, None]


def _pool(x_nchw: Tensor, rows: int, columns: int) -> Tensor:
    """Return the adaptive mean pooling; windows of one size, which do not overlap, have a quicker kernel."""
    height, width = x_nchw.shape[2:]
    if torch.compiler.is_exporting() or height % rows or width % columns:
        return adaptive_mean(x_nchw, rows, columns)
    if compiled_for_cpu(x_nchw):
        windows_nchawb = x_nchw.unflatten(2, (rows, -1)).unflatten(4, (columns, -1))
        return mean_over(windows_nchawb, (3, 5))
    return F.avg_pool2d(x_nchw, (height // rows, width // columns))


def _frequency_pairs(frequencies: str) -> list[tuple[int, int]]:
    kind, count = frequencies[:3], frequencies[3:]
    if kind not in _ORDERS or not count.isdecimal() or not 1 <= int(count) <= 32:
        message = f"FCA: frequencies={frequencies!r} is not known; use top, low or bot and a number, as in 'top16'"
        raise ValueError(message)
    return [(int(pair[0]), int(pair[1])) for pair in _ORDERS[kind].split()[: int(count)]]


def _check(channels: int, count: int, frequencies: str, dct_height: int, dct_width: int) -> None:
    message = ""
    if channels % count:
        message = f"FCA: frequencies={frequencies!r}: {count} does not divide channels={channels}; use a divisor"
    elif dct_height < _GRID:
        message = f"FCA: dct_height={dct_height} is below {_GRID}, where all frequencies are 0; use {_GRID} or more"
    elif dct_width < _GRID:
        message = f"FCA: dct_width={dct_width} is below {_GRID}, where all frequencies are 0; use {_GRID} or more"
    if message:
        raise ValueError(message)


def _basis(pairs: list[tuple[int, int]], channels: int, height: int, width: int) -> Tensor:
    """Return the DCT function of every channel, ``(C, height, width)``."""
    basis_fhw = torch.stack([_cosine(pair, height, width) for pair in pairs])
    return basis_fhw.repeat_interleave(channels // len(pairs), dim=0)


def _cosine(pair: tuple[int, int], height: int, width: int) -> Tensor:
    """Return the DCT function of a frequency of the 7 x 7 grid, on ``height`` x ``width`` pixels."""
    row = _wave(pair[0] * (height // _GRID), height)
    column = _wave(pair[1] * (width // _GRID), width)
    return row[:, None] * column[None, :]


def _wave(frequency: int, size: int) -> Tensor:
    scale = math.sqrt(2 / size) if frequency else math.sqrt(1 / size)
    wave = [math.cos(math.pi * frequency * (place + 0.5) / size) * scale for place in range(size)]
    return torch.tensor(wave, dtype=torch.float64).to(torch.get_default_dtype())
