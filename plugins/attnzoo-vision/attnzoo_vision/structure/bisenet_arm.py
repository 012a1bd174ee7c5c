"""Attention refinement module of BiSeNet."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.pooling import global_mean


class AttentionRefinement(nn.Module):
    """Convolve a backbone feature and scale each channel by a weight computed from the means of all channels.

    ``f = relu(BN(conv(x)))``, ``y = f * sigmoid(BN(W mean_hw(f)))``

    Args:
        channels: Channels of the input.
        out_channels: Channels of the output.

    Shape:
        ``(N, C, H, W)`` to ``(N, out_channels, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: A number of channels is below 1.

    Source:
        Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", ECCV 2018,
        arXiv:1808.00897, fig. 2 (b). First author's code: github.com/ycszen/TorchSeg @ 62eeb15,
        furnace/seg_opr/seg_oprs.py, class AttentionRefinement.
        Deviations: the figure has no 3x3 convolution, every published code has it. Training with a single sample, an
        error there, normalises the weight with the running statistics.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("AttentionRefinement", 1, channels=channels, out_channels=out_channels)
        self.conv = ConvNorm(channels, out_channels, kernel_size=3, relu=True)
        self.gate = nn.Linear(out_channels, out_channels, bias=False)
        self.gate_norm = BatchNorm1d(out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: Kaiming normal, as the authors do."""
        for layer in (self.conv.conv, self.gate):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.conv.norm.reset_parameters()
        self.gate_norm.reset_parameters()

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the refined feature."""
        check_input("AttentionRefinement", x_nchw, self.channels)
        feature_nohw: Tensor = self.conv(x_nchw)
        return feature_nohw * self._weight(feature_nohw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weight of each channel of the convolved feature, ``(N, out_channels, 1, 1)``."""
        check_input("AttentionRefinement", x_nchw, self.channels)
        return {"channel": self._weight(self.conv(x_nchw))}

    def _weight(self, feature_nohw: Tensor) -> Tensor:
        logits_no = self.gate_norm(self.gate(global_mean(feature_nohw)))
        return torch.sigmoid(logits_no)[:, :, None, None]
