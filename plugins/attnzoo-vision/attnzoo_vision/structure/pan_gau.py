"""Global attention upsample of PAN."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm1d, BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.rectify import rectify


class GlobalAttentionUpsample(nn.Module):
    """Weight a fine feature by the global mean of a coarse one and add the coarse one, upsampled.

    ``y = relu(BN(up(x)) + BN(conv(f)) * relu(BN(W mean_hw(x))))``

    Args:
        channels: Channels of the coarse feature.
        fine_channels: Channels of the fine feature and of the output.
        upsample: The fine feature is twice as large, and a transposed convolution brings the coarse one to its size.
            Without, both have one size, and a 1x1 convolution does.

    Shape:
        ``x_nchw`` ``(N, C, H, W)`` and ``fine_nfhw`` ``(N, fine_channels, 2 H, 2 W)``, or a row or column less, to the
        shape of ``fine_nfhw``; without ``upsample`` ``(N, fine_channels, H, W)``. Any H and W from 1 on.

    Raises:
        ValueError: A number of channels is below 1.

    Source:
        Li et al., "Pyramid Attention Network for Semantic Segmentation", BMVC 2018, arXiv:1805.10180, section 3.2.
        The authors released no code; github.com/JaveyWang/Pyramid-Attention-Networks-pytorch @ f719365, networks.py.
        Deviations: the upsampled feature is cropped to the fine one. Training with a single sample, an error there,
        normalises the mean with the running statistics.
    """

    def __init__(self, channels: int, fine_channels: int, *, upsample: bool = True) -> None:
        super().__init__()
        self.channels, self.fine_channels = channels, fine_channels
        check_at_least("GlobalAttentionUpsample", 1, channels=channels, fine_channels=fine_channels)
        self.fine = ConvNorm(fine_channels, fine_channels, kernel_size=3)
        self.gate = nn.Linear(channels, fine_channels, bias=False)
        self.gate_norm = BatchNorm1d(fine_channels)
        self.coarse: nn.ConvTranspose2d | nn.Conv2d
        if upsample:
            self.coarse = nn.ConvTranspose2d(channels, fine_channels, 4, stride=2, padding=1, bias=False)
        else:
            self.coarse = nn.Conv2d(channels, fine_channels, 1, bias=False)
        self.coarse_norm = BatchNorm2d(fine_channels)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor, fine_nfhw: Tensor) -> Tensor:
        """Return the fused feature."""
        check_input("GlobalAttentionUpsample", x_nchw, self.channels)
        check_input("GlobalAttentionUpsample", fine_nfhw, self.fine_channels, name="fine", argument="fine_channels")
        height, width = fine_nfhw.shape[2:]
        coarse_nfhw = self.coarse_norm(convolve(self.coarse, x_nchw)[..., :height, :width])
        return rectify(torch.addcmul(coarse_nfhw, self.fine(fine_nfhw), self._weight(x_nchw)))

    def attention(self, x_nchw: Tensor, fine_nfhw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weight of each channel of the fine feature, ``(N, fine_channels, 1, 1)``."""
        check_input("GlobalAttentionUpsample", x_nchw, self.channels)
        check_input("GlobalAttentionUpsample", fine_nfhw, self.fine_channels, name="fine", argument="fine_channels")
        return {"channel": self._weight(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        gate_nf = self.gate_norm(self.gate(global_mean(x_nchw)))
        return torch.relu(gate_nf)[:, :, None, None]
