"""Feature pyramid attention of PAN."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm1d, BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.rectify import rectify

_KERNELS = (7, 5, 3)


class FeaturePyramidAttention(nn.Module):
    """Weight a map by attention that a pyramid of three smaller maps gives, and add its global mean.

    ``y = relu(BN(W x) * a + BN(V mean_hw(x)))``, ``a`` from convolutions of 7, 5 and 3 pixels at 1/2, 1/4 and 1/8

    Args:
        channels: Channels of the input; a quarter of them, rounded down, in the pyramid.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``channels`` is below 4.

    Source:
        Li et al., "Pyramid Attention Network for Semantic Segmentation", BMVC 2018, arXiv:1805.10180, section 3.1.
        The authors released no code; github.com/JaveyWang/Pyramid-Attention-Networks-pytorch @ f719365, networks.py.
        Deviations: sizes that are no multiple of 8, which that code refuses, are cropped behind each transposed
        convolution. Training with a single sample, an error there, normalises the mean with the running statistics.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("FeaturePyramidAttention", 4, channels=channels)
        hidden = channels // 4
        self.master = ConvNorm(channels, channels)
        self.mean = nn.Linear(channels, channels, bias=False)
        self.mean_norm = BatchNorm1d(channels)
        widths = (channels, hidden, hidden)
        down = [ConvNorm(c, hidden, kernel_size=k, stride=2, relu=True) for c, k in zip(widths, _KERNELS, strict=True)]
        self.down = nn.ModuleList(down)
        self.lateral = nn.ModuleList(ConvNorm(hidden, hidden, kernel_size=k) for k in _KERNELS)
        up = [nn.ConvTranspose2d(hidden, c, 4, stride=2, padding=1, bias=False) for c in widths]
        self.up = nn.ModuleList(up)
        self.up_norm = nn.ModuleList(BatchNorm2d(c) for c in widths)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the weighted map plus the mean."""
        check_input("FeaturePyramidAttention", x_nchw, self.channels)
        mean_nc = self.mean_norm(self.mean(global_mean(x_nchw)))
        return rectify(torch.addcmul(mean_nc[:, :, None, None], self.master(x_nchw), self._weight(x_nchw)))

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``weight``, what each value is multiplied by, zero or above, ``(N, C, H, W)``."""
        check_input("FeaturePyramidAttention", x_nchw, self.channels)
        return {"weight": self._weight(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        levels = [x_nchw]
        for down in self.down:
            levels.append(down(levels[-1]))
        merged: Tensor = self.lateral[2](levels[3])
        for i in (2, 1, 0):
            up, (height, width) = self.up[i], levels[i].shape[2:]
            merged = rectify(self.up_norm[i](convolve(up, merged)[..., :height, :width]))
            if i:
                merged = rectify(self.lateral[i - 1](levels[i]) + merged)
        return merged
