"""Feature fusion module of BiSeNet."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least, check_at_most
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.pooling import global_mean


class FeatureFusion(nn.Module):
    """Join two features of one size and add to each channel its share, computed from the means of all channels.

    ``f = relu(BN(W cat(s, c)))``, ``y = f + f * sigmoid(W2 relu(W1 mean_hw(f)))``

    Args:
        channels: Channels of both inputs together.
        out_channels: Channels of the output.
        reduction: Divisor of ``out_channels`` that gives the number of hidden units, rounded down.

    Shape:
        ``spatial_nahw`` ``(N, A, H, W)`` and ``context_nbhw`` ``(N, B, H, W)`` with A + B = C to
        ``(N, out_channels, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``reduction`` leaves no hidden unit, or a number of channels is below 1.

    Source:
        Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", ECCV 2018,
        arXiv:1808.00897, fig. 2 (c). First author's code: github.com/ycszen/TorchSeg @ 62eeb15,
        furnace/seg_opr/seg_oprs.py, class FeatureFusion.
        Deviations: none. The weight's layers are ``nn.Linear`` for their 1x1 convolutions.
    """

    def __init__(self, channels: int, out_channels: int, *, reduction: int = 1) -> None:
        super().__init__()
        check_at_least("FeatureFusion", 1, channels=channels, out_channels=out_channels, reduction=reduction)
        check_at_most("FeatureFusion", "reduction", reduction, "out_channels", out_channels)
        self.fuse = ConvNorm(channels, out_channels, relu=True)
        self.squeeze = nn.Linear(out_channels, out_channels // reduction, bias=False)
        self.excite = nn.Linear(out_channels // reduction, out_channels, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: Kaiming normal, as the authors do."""
        for layer in (self.fuse.conv, self.squeeze, self.excite):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.fuse.norm.reset_parameters()

    def forward(self, spatial_nahw: Tensor, context_nbhw: Tensor) -> Tensor:
        """Return the fused feature."""
        feature_nohw: Tensor = self.fuse(torch.cat((spatial_nahw, context_nbhw), dim=1))
        return feature_nohw * (1.0 + self._weight(feature_nohw))

    def attention(self, spatial_nahw: Tensor, context_nbhw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the share that is added to each channel, ``(N, out_channels, 1, 1)``."""
        return {"channel": self._weight(self.fuse(torch.cat((spatial_nahw, context_nbhw), dim=1)))}

    def _weight(self, feature_nohw: Tensor) -> Tensor:
        hidden_nr = torch.relu(self.squeeze(global_mean(feature_nohw)))
        return torch.sigmoid(self.excite(hidden_nr))[:, :, None, None]
