"""Large kernel attention of VAN."""

import math

from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.convolution import convolve


class LargeKernelAttention(nn.Module):
    """Multiply each value by a large convolution of the map, built from two small depthwise ones and a 1x1.

    ``y = x * conv1x1(dw_dilated(dw(x)))``

    Args:
        channels: Channels of the input.
        kernel_size: Kernel that is built, in pixels.
        dilation: Step of the dilated convolution, in pixels. The first kernel has ``2 * dilation - 1`` pixels, the
            dilated one ``ceil(kernel_size / dilation)``, which must be odd.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: The dilated kernel would be even, or a number is below 1.

    Source:
        Guo et al., "Visual Attention Network", CVM 2023, arXiv:2202.09741, eq. 2-3.
        Authors' code: github.com/Visual-Attention-Network/VAN-Classification @ e19779b, models/van.py, class LKA.
        Deviations: none.
    """

    def __init__(self, channels: int, *, kernel_size: int = 21, dilation: int = 3) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("LargeKernelAttention", 1, channels=channels)
        check_kernel("LargeKernelAttention", kernel_size, dilation)
        local, sparse = 2 * dilation - 1, math.ceil(kernel_size / dilation)
        self.local = nn.Conv2d(channels, channels, local, padding=local // 2, groups=channels)
        padding = dilation * (sparse // 2)
        self.dilated = nn.Conv2d(channels, channels, sparse, padding=padding, groups=channels, dilation=dilation)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as the authors do: normal with variance 2 / fan-out, biases zero."""
        for conv in (self.local, self.dilated, self.pointwise):
            height, width = conv.kernel_size
            fan_out = height * width * conv.out_channels // conv.groups
            nn.init.normal_(conv.weight, std=math.sqrt(2.0 / fan_out))
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` times its large convolution."""
        return x_nchw * self._weight(x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``weight``, what each value is multiplied by, of any size and sign, ``(N, C, H, W)``."""
        return {"weight": self._weight(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        check_input("LargeKernelAttention", x_nchw, self.channels)
        weight_nchw: Tensor = convolve(self.pointwise, convolve(self.dilated, convolve(self.local, x_nchw)))
        return weight_nchw


def check_kernel(block: str, kernel_size: int, dilation: int) -> None:
    """Raise ValueError if the dilated kernel of ``block`` has no centre."""
    check_at_least(block, 1, kernel_size=kernel_size, dilation=dilation)
    taps = math.ceil(kernel_size / dilation)
    if taps % 2 == 0:
        message = f"{block}: kernel_size={kernel_size} with dilation={dilation} needs {taps} taps, which is even; "
        raise ValueError(message + f"use {dilation * (taps - 1)} or {dilation * taps + 1}")
