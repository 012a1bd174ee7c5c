"""Attention gate of Attention U-Net."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm2d, BatchNorm3d
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input
from attnzoo_vision.ops.compiling import settled
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.rectify import rectify
from attnzoo_vision.ops.resize import resize


class AttentionGate(nn.Module):
    """Weight the pixels of a skip feature by what a coarser gating signal looks for.

    ``y = BN(W (a * x))``, ``a = up(sigmoid(psi relu(conv_stride(x) + up(phi g))))``

    Args:
        channels: Channels of the skip feature.
        gating_channels: Channels of the gating signal.
        hidden_channels: Channels that both are compared in; None means half of ``channels``.
        stride: Pixels of the skip feature, along each axis or one number for all, that share a weight before it is
            interpolated; also the kernel of the convolution that brings them together.
        spatial_dims: Number of spatial axes: 2 for images, 3 for volumes.
        mode: ``sigmoid``: ReLU and sigmoid, as published. ``softplus``: softplus in place of the ReLU. ``softmax``:
            a softmax over all pixels in place of the sigmoid.
        align_corners: Interpolate between the centres of the corner pixels; torch before 0.4 did so.

    Shape:
        ``x_nchw`` ``(N, C, H, W)`` and ``gate_nghw`` ``(N, gating_channels, h, w)`` of any size to ``(N, C, H, W)``;
        H and W from ``stride`` on. Three sizes in place of two if ``spatial_dims`` is 3.

    Raises:
        ValueError: An option is not one of those above, or a number is below 1.

    Source:
        Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018, arXiv:1804.03999, eq. 1-2.
        Authors' code: github.com/ozan-oktay/Attention-Gated-Networks @ eee4881, models/layers/grid_attention_layer.py.
        Deviations: the map is returned by ``attention``, not along with the output.
    """

    def __init__(
        self,
        channels: int,
        gating_channels: int,
        *,
        hidden_channels: int | None = None,
        stride: int | list[int] | tuple[int, ...] = 2,
        spatial_dims: Literal[2, 3] = 2,
        mode: Literal["sigmoid", "softplus", "softmax"] = "sigmoid",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.gating_channels = channels, gating_channels
        strides = _check(stride, spatial_dims, mode)
        check_at_least(
            "AttentionGate", 1, channels=channels, gating_channels=gating_channels, hidden_channels=hidden_channels
        )
        hidden = max(channels // 2, 1) if hidden_channels is None else hidden_channels
        conv = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.axes = "NCHW" if spatial_dims == 2 else "NCTHW"
        self.mode = mode
        self.align_corners = align_corners
        self.theta = conv(channels, hidden, strides, strides, bias=False)  # type: ignore[arg-type]
        self.phi = conv(gating_channels, hidden, 1)
        self.psi = conv(hidden, 1, 1)
        self.project = conv(channels, channels, 1)
        self.norm = BatchNorm2d(channels) if spatial_dims == 2 else BatchNorm3d(channels)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Draw the weights as the authors do: Kaiming normal, scales of the norm around 1, biases of torch."""
        for layer in (self.theta, self.phi, self.psi, self.project):
            nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(self.norm.weight, 1.0, 0.02)
        nn.init.zeros_(self.norm.bias)

    def forward(self, x_nchw: Tensor, gate_nghw: Tensor) -> Tensor:
        """Return the gated skip feature."""
        y_nchw: Tensor = self.norm(convolve(self.project, x_nchw * self._weight(x_nchw, gate_nghw)))
        return y_nchw

    def attention(self, x_nchw: Tensor, gate_nghw: Tensor) -> dict[str, Tensor]:
        """Return ``spatial``, the weight of each pixel, ``(N, 1, H, W)``."""
        return {"spatial": self._weight(x_nchw, gate_nghw)}

    def _weight(self, x_nchw: Tensor, gate_nghw: Tensor) -> Tensor:
        check_input("AttentionGate", x_nchw, self.channels, self.axes)
        check_input(
            "AttentionGate", gate_nghw, self.gating_channels, self.axes, name="gate", argument="gating_channels"
        )
        theta_nrhw = convolve(self.theta, x_nchw)
        sum_nrhw = theta_nrhw + self._resize(convolve(self.phi, gate_nghw), theta_nrhw.shape[2:])
        hidden_nrhw = F.softplus(sum_nrhw) if self.mode == "softplus" else rectify(sum_nrhw)
        logits_n1hw = convolve(self.psi, hidden_nrhw)
        if self.mode == "softmax":
            weight_n1hw = logits_n1hw.flatten(2).softmax(-1).view(logits_n1hw.shape)
        else:
            weight_n1hw = torch.sigmoid(logits_n1hw)
        return settled(self._resize(weight_n1hw, x_nchw.shape[2:]))  # a compiler would form it for every channel

    def _resize(self, x_nchw: Tensor, size: torch.Size) -> Tensor:
        if x_nchw.shape[2:] == size:
            return x_nchw
        if len(size) == 2:
            return resize(x_nchw, size, align_corners=self.align_corners)
        return F.interpolate(x_nchw, list(size), mode="trilinear", align_corners=self.align_corners)


def _check(stride: int | list[int] | tuple[int, ...], spatial_dims: int, mode: str) -> tuple[int, ...]:
    check_choice("AttentionGate", "spatial_dims", spatial_dims, (2, 3))
    check_choice("AttentionGate", "mode", mode, ("sigmoid", "softplus", "softmax"))
    strides = (stride,) * spatial_dims if isinstance(stride, int) else tuple(stride)
    if len(strides) != spatial_dims or min(strides) < 1:
        message = f"AttentionGate: stride={stride} is not one number or {spatial_dims} numbers, each at least 1; "
        message += f"use 2 or {[2] * spatial_dims}"
        raise ValueError(message)
    return strides
