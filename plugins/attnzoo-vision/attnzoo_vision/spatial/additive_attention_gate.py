"""The simple attention gate that most Attention U-Net code has."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.joined_norm import conv_and_norm
from attnzoo_vision.ops.rectify import rectify_


class AdditiveAttentionGate(nn.Module):
    """Weight the pixels of a skip feature by its sum with a gating signal of the same size.

    ``y = x * sigmoid(BN(psi relu(BN(Wx x) + BN(Wg g))))``

    Args:
        channels: Channels of the skip feature.
        gating_channels: Channels of the gating signal.
        hidden_channels: Channels that both are compared in; None means half of ``channels``.

    Shape:
        ``x_nchw`` ``(N, C, H, W)`` and ``gate_nghw`` ``(N, gating_channels, H, W)`` to ``(N, C, H, W)``; any H and W
        from 1 on.

    Raises:
        ValueError: A number of channels is below 1.

    Source:
        After Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018, arXiv:1804.03999.
        Code: github.com/LeeJunHyun/Image_Segmentation @ 5e9da93, network.py, class Attention_block, which differs from
        the authors' block: no stride, no output convolution, and a norm in front of the sigmoid.
        Deviations: none from that code.
    """

    def __init__(self, channels: int, gating_channels: int, *, hidden_channels: int | None = None) -> None:
        super().__init__()
        self.channels, self.gating_channels = channels, gating_channels
        check_at_least(
            "AdditiveAttentionGate",
            1,
            channels=channels,
            gating_channels=gating_channels,
            hidden_channels=hidden_channels,
        )
        hidden = max(channels // 2, 1) if hidden_channels is None else hidden_channels
        self.skip = nn.Conv2d(channels, hidden, 1)
        self.skip_norm = BatchNorm2d(hidden)
        self.gate = nn.Conv2d(gating_channels, hidden, 1)
        self.gate_norm = BatchNorm2d(hidden)
        self.psi = nn.Conv2d(hidden, 1, 1)
        self.psi_norm = BatchNorm2d(1)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor, gate_nghw: Tensor) -> Tensor:
        """Return the gated skip feature."""
        return x_nchw * self._weight(x_nchw, gate_nghw)

    def attention(self, x_nchw: Tensor, gate_nghw: Tensor) -> dict[str, Tensor]:
        """Return ``spatial``, the weight of each pixel, ``(N, 1, H, W)``."""
        return {"spatial": self._weight(x_nchw, gate_nghw)}

    def _weight(self, x_nchw: Tensor, gate_nghw: Tensor) -> Tensor:
        check_input("AdditiveAttentionGate", x_nchw, self.channels)
        check_input("AdditiveAttentionGate", gate_nghw, self.gating_channels, name="gate", argument="gating_channels")
        sum_nrhw = conv_and_norm(self.skip, self.skip_norm, x_nchw)
        sum_nrhw = sum_nrhw + conv_and_norm(self.gate, self.gate_norm, gate_nghw)
        return torch.sigmoid(conv_and_norm(self.psi, self.psi_norm, rectify_(sum_nrhw)))
