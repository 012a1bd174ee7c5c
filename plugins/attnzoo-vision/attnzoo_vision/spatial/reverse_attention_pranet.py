"""Parallel reverse attention of PraNet."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_input, check_odd
from attnzoo_vision.ops.conv_norm import ConvNorm


class ReverseAttentionPraNet(nn.Module):
    """Refine a coarse prediction by backbone features of the places that it leaves out.

    ``y = p + BN(conv(relu(BN(conv(... BN(W (gate * x)))))))``, ``gate = 1 - sigmoid(p)``

    Args:
        channels: Channels of the backbone feature.
        hidden_channels: Channels of the convolutions.
        depth: Number of hidden convolutions, each with norm and ReLU.
        kernel_size: Kernel of the hidden convolutions in pixels, odd.
        score_kernel_size: Kernel of the last convolution in pixels, odd.

    Shape:
        ``x_nchw`` ``(N, C, H, W)`` and ``prediction_n1hw`` ``(N, 1, H, W)``, logits of the coarser stage resized to the
        size of ``x_nchw``, to refined logits ``(N, 1, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: A kernel is even, or a number is below 1.

    Source:
        Fan et al., "PraNet: Parallel Reverse Attention Network for Polyp Segmentation", MICCAI 2020, arXiv:2006.11392,
        eq. 1. Authors' code: github.com/DengPingFan/PraNet @ 95f12bd, lib/PraNet_Res2Net.py. The defaults are its
        stages 2 and 3; stage 4 has hidden_channels=256, depth=3, kernel_size=5, score_kernel_size=1.
        Deviations: none from the code. Its first and last convolutions have no ReLU, and the last is normalised.
    """

    def __init__(
        self,
        channels: int,
        *,
        hidden_channels: int = 64,
        depth: int = 2,
        kernel_size: int = 3,
        score_kernel_size: int = 3,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("ReverseAttentionPraNet", 1, channels=channels, hidden_channels=hidden_channels, depth=depth)
        check_odd("ReverseAttentionPraNet", kernel_size=kernel_size, score_kernel_size=score_kernel_size)
        self.reduce = ConvNorm(channels, hidden_channels)
        hidden = [ConvNorm(hidden_channels, hidden_channels, kernel_size=kernel_size, relu=True) for _ in range(depth)]
        self.hidden = nn.ModuleList(hidden)
        self.score = ConvNorm(hidden_channels, 1, kernel_size=score_kernel_size)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor, prediction_n1hw: Tensor) -> Tensor:
        """Return the refined logits."""
        check_input("ReverseAttentionPraNet", x_nchw, self.channels)
        check_input("ReverseAttentionPraNet", prediction_n1hw, 1, name="prediction", argument="")
        y_nrhw = self.reduce(x_nchw * torch.sigmoid(-prediction_n1hw))
        for layer in self.hidden:
            y_nrhw = layer(y_nrhw)
        refined_n1hw: Tensor = self.score(y_nrhw)
        return refined_n1hw + prediction_n1hw

    def attention(self, x_nchw: Tensor, prediction_n1hw: Tensor) -> dict[str, Tensor]:
        """Return ``gate``, one minus the coarse probability, ``(N, 1, H, W)``."""
        check_input("ReverseAttentionPraNet", x_nchw, self.channels)
        check_input("ReverseAttentionPraNet", prediction_n1hw, 1, name="prediction", argument="")
        return {"gate": torch.sigmoid(-prediction_n1hw)}
