"""ELA: rows and columns weighted through a convolution along each, without reduction of the channels."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input, check_odd
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.group_norm import GroupNorm
from attnzoo_vision.ops.strips import pool_strips, scale_by_strips, strip_maps


class ELA(nn.Module):
    """Scale each channel by a weight of its row and a weight of its column, from one shared convolution.

    ``y = x * f(mean_w(x)) * f(mean_h(x))`` with ``f(s) = sigmoid(GN(k * s))``; ``*`` with ``k`` is a convolution along
    the row or column.

    Args:
        channels: Channels of the input.
        kernel_size: Odd number of taps.
        groups: Groups of the convolution; None for one group a channel.
        norm_groups: Groups of the group norm.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``kernel_size`` is even, or ``groups`` or ``norm_groups`` does not divide ``channels``.

    Source:
        Xu and Wan, "ELA: Efficient Local Attention for Deep Convolutional Neural Networks", 2024,
        arXiv:2403.01123, eq. 5-8.
        The authors published no code; checked against github.com/AIFengheshu/Plug-play-modules @ 2f933bc.
        Deviations: none in the numbers.
    """

    def __init__(
        self, channels: int, *, kernel_size: int = 7, groups: int | None = None, norm_groups: int = 16
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("ELA", 1, channels=channels)
        groups = channels if groups is None else groups
        check_odd("ELA", kernel_size=kernel_size)
        check_divides("ELA", "groups", groups, "channels", channels)
        check_divides("ELA", "norm_groups", norm_groups, "channels", channels)
        self.conv = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False)
        self.norm = GroupNorm(norm_groups, channels)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the weights ``height``, ``(N, C, H, 1)``, and ``width``, ``(N, C, 1, W)``."""
        return strip_maps(*self._weights(x_nchw))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled by the weights of its row and column."""
        return scale_by_strips(x_nchw, *self._weights(x_nchw))

    def _weights(self, x_nchw: Tensor) -> tuple[Tensor, Tensor]:
        check_input("ELA", x_nchw, self.channels)
        rows_nch, columns_ncw = pool_strips(x_nchw)
        return self._weight(rows_nch), self._weight(columns_ncw)

    def _weight(self, x_ncl: Tensor) -> Tensor:
        return torch.sigmoid(self.norm(convolve(self.conv, x_ncl)))
