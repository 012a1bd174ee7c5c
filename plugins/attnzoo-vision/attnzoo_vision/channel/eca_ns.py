"""Efficient Channel Attention without shared filters (ECA-NS)."""

from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.channel_window import filter_channels
from attnzoo_vision.ops.checks import check_at_least, check_input, check_odd
from attnzoo_vision.ops.pooling import global_mean


class ECANS(nn.Module):
    """Scale each channel by a weight computed from the means of the channels next to it, each with its own filter.

    ``y_c = x_c * sigmoid(sum_j w_cj mean_hw(x)_(c + j - k // 2))``, zeros beyond the ends

    Args:
        channels: Channels of the input.
        kernel_size: Number of neighbouring channels that a weight depends on, odd.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``kernel_size`` is even, ``channels`` is less than 1, or the input has other channels.

    Source:
        Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", CVPR 2020,
        arXiv:1910.03151, eq. 6 and table 1 (ECA-NS).
        Authors' code: github.com/BangguWu/ECANet @ b332f6b, models/eca_ns.py.
        Deviations: none.
    """

    def __init__(self, channels: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("ECANS", 1, channels=channels)
        check_odd("ECANS", kernel_size=kernel_size)
        self.kernel_size = kernel_size
        self.conv = nn.Conv1d(channels, channels, kernel_size, groups=channels, bias=False)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled by its weight in (0, 1)."""
        return x_nchw * self._weight(x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weights that :meth:`forward` multiplies with, ``(N, C, 1, 1)``."""
        return {"channel": self._weight(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        check_input("ECANS", x_nchw, self.channels)
        weight_c1k, bias_c = affine(self.conv)
        logit_nc = filter_channels(global_mean(x_nchw), weight_c1k.squeeze(1))
        if bias_c is not None:
            logit_nc = logit_nc + bias_c
        return logit_nc.sigmoid()[:, :, None, None]
