"""The unit of residual networks: convolution, batch norm and ReLU."""

import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_vision.ops.fold import conv_and_norm


class ConvUnit(nn.Module):
    """Convolve without bias, normalise over the batch, and apply ReLU if ``relu``; half a kernel of padding."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = relu

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the map of ``out_channels`` channels."""
        y_nchw = conv_and_norm(self.conv, self.norm, x_nchw)
        return F.relu(y_nchw, inplace=True) if self.relu else y_nchw
