"""Style-based Recalibration Module."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.pooling import global_mean, square_sum


class SRM(nn.Module):
    """Scale each channel by a weight computed from its own mean and standard deviation.

    ``y_c = x_c * sigmoid(BN(u_c mean_hw(x_c) + v_c sqrt(var_hw(x_c) + eps)))``

    Args:
        channels: Channels of the input.
        eps: Added to the unbiased variance of a channel.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``channels`` is less than 1, or the input has other channels.

    Source:
        Lee et al., "SRM: A Style-based Recalibration Module for Convolutional Neural Networks", ICCV 2019,
        arXiv:1903.10829, eq. 1-5. Authors' code: github.com/hyunjaelee410/style-based-recalibration-module @ f6221c7,
        models/recalibration_modules.py.
        Deviations: the variance of a single pixel is 0, where theirs is NaN; a training batch of one sample, which they
        refuse, is normalised with the running statistics.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("SRM", 1, channels=channels)
        self.eps = eps
        self.style_weight = nn.Parameter(torch.empty(channels, 2))
        self.norm = BatchNorm1d(channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with every weight at one half, whatever the input."""
        nn.init.zeros_(self.style_weight)
        self.norm.reset_parameters()

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled by its weight in (0, 1)."""
        return x_nchw * self._weight(x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weights that :meth:`forward` multiplies with, ``(N, C, 1, 1)``."""
        return {"channel": self._weight(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        check_input("SRM", x_nchw, self.channels)
        mean_nc = global_mean(x_nchw)
        # var() costs 25 to 180 reads of the map on a CPU, a difference and a sum of squares 4 to 25
        squares_nc = square_sum(x_nchw - mean_nc[:, :, None, None])
        pixels = x_nchw.shape[2] * x_nchw.shape[3]
        freedom = pixels - 1 + 1 // pixels  # 1 for a single pixel, without a branch that tracing would fix
        deviation_nc = (squares_nc / freedom + self.eps).sqrt().to(mean_nc.dtype)
        style_nc = mean_nc * self.style_weight[:, 0] + deviation_nc * self.style_weight[:, 1]
        weight_nc: Tensor = self.norm(style_nc).sigmoid()
        return weight_nc[:, :, None, None]
