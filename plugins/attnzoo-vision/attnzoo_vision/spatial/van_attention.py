"""Attention of VAN: large kernel attention between two projections."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.spatial.large_kernel_attention import LargeKernelAttention, check_kernel


class VANAttention(nn.Module):
    """Project, apply GELU and large kernel attention, project back, and add the input.

    ``y = x + W2 lka(gelu(W1 x))``

    Args:
        channels: Channels of the input.
        kernel_size: Kernel that the attention builds, in pixels.
        dilation: Step of its dilated convolution, in pixels.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``kernel_size`` and ``dilation`` do not fit each other, see `LargeKernelAttention`.

    Source:
        Guo et al., "Visual Attention Network", CVM 2023, arXiv:2202.09741, fig. 4.
        Authors' code: github.com/Visual-Attention-Network/VAN-Classification @ e19779b, models/van.py, class Attention.
        Deviations: none. GELU is the exact one.
    """

    def __init__(self, channels: int, *, kernel_size: int = 21, dilation: int = 3) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("VANAttention", 1, channels=channels)
        check_kernel("VANAttention", kernel_size, dilation)
        self.project_in = nn.Conv2d(channels, channels, 1)
        self.lka = LargeKernelAttention(channels, kernel_size=kernel_size, dilation=dilation)
        self.project_out = nn.Conv2d(channels, channels, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as the authors do: normal with variance 2 / fan-out, biases zero."""
        self.lka.reset_parameters()
        for conv in (self.project_in, self.project_out):
            nn.init.normal_(conv.weight, std=math.sqrt(2.0 / conv.out_channels))
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the input plus its attended projection."""
        check_input("VANAttention", x_nchw, self.channels)
        y_nchw: Tensor = convolve(self.project_out, self.lka(F.gelu(convolve(self.project_in, x_nchw))))
        return y_nchw + x_nchw

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``weight``, a factor for each projected value, and the product ``attended``, ``(N, C, H, W)``."""
        check_input("VANAttention", x_nchw, self.channels)
        hidden_nchw = F.gelu(convolve(self.project_in, x_nchw))
        weight_nchw = self.lka.attention(hidden_nchw)["weight"]
        return {"weight": weight_nchw, "attended": hidden_nchw * weight_nchw}
