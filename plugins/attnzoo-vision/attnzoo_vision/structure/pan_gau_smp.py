"""Global attention upsample as segmentation_models.pytorch has it."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.draw import draw_anew
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.resize import resize


class GlobalAttentionUpsampleSMP(nn.Module):
    """Convolve a fine feature, scale its channels by a gate from the mean of a coarse one, and add the coarse one.

    ``y = resize(x) + relu(BN(conv(f) + b)) * sigmoid(BN(W mean_hw(x) + c))``

    Args:
        channels: Channels of the coarse feature and of the output.
        fine_channels: Channels of the fine feature.
        upsample: How the coarse feature is brought to the size of the fine one; ``bilinear`` between corner centres.

    Shape:
        ``x_nchw`` ``(N, C, H, W)`` and ``fine_nfhw`` ``(N, fine_channels, h, w)`` to ``(N, C, h, w)``; any sizes from 1
        on.

    Raises:
        ValueError: ``upsample`` is not one of those above, or a number of channels is below 1.

    Source:
        Li et al., "Pyramid Attention Network for Semantic Segmentation", BMVC 2018, arXiv:1805.10180, section 3.2.
        The authors released no code; github.com/qubvel/segmentation_models.pytorch @ bd7f877,
        segmentation_models_pytorch/decoders/pan/decoder.py, class GAUBlock.
        Deviations: none. Training with a single sample, an error there, normalises the gate with the running
        statistics.
    """

    def __init__(
        self, channels: int, fine_channels: int, *, upsample: Literal["bilinear", "nearest"] = "bilinear"
    ) -> None:
        super().__init__()
        self.channels, self.fine_channels = channels, fine_channels
        check_at_least("GlobalAttentionUpsampleSMP", 1, channels=channels, fine_channels=fine_channels)
        check_choice("GlobalAttentionUpsampleSMP", "upsample", upsample, ("bilinear", "nearest"))
        self.upsample = upsample
        self.fine = ConvNorm(fine_channels, channels, kernel_size=3, bias=True, relu=True)
        self.gate = nn.Linear(channels, channels)
        self.gate_norm = BatchNorm1d(channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: Kaiming uniform without bias, as that library does."""
        uniform = partial(nn.init.kaiming_uniform_, nonlinearity="relu")
        draw_anew(self, conv=uniform, linear=uniform, zero_biases=True)

    def forward(self, x_nchw: Tensor, fine_nfhw: Tensor) -> Tensor:
        """Return the fused feature."""
        check_input("GlobalAttentionUpsampleSMP", x_nchw, self.channels)
        check_input("GlobalAttentionUpsampleSMP", fine_nfhw, self.fine_channels, name="fine", argument="fine_channels")
        coarse_nchw = resize(x_nchw, fine_nfhw.shape[2:], self.upsample)
        return torch.addcmul(coarse_nchw, self.fine(fine_nfhw), self._weight(x_nchw))

    def attention(self, x_nchw: Tensor, fine_nfhw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weight of each channel of the convolved fine feature, ``(N, C, 1, 1)``."""
        check_input("GlobalAttentionUpsampleSMP", x_nchw, self.channels)
        check_input("GlobalAttentionUpsampleSMP", fine_nfhw, self.fine_channels, name="fine", argument="fine_channels")
        return {"channel": self._weight(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        return torch.sigmoid(self.gate_norm(self.gate(global_mean(x_nchw))))[:, :, None, None]
