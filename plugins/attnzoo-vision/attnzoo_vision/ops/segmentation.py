"""Convolution, batch norm and ReLU, the unit that segmentation networks are made of."""

import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm2d


class ConvNorm(nn.Module):
    """Convolve without bias, normalise over the batch, and apply ReLU if ``relu``.

    The padding is half the kernel, so that an odd kernel with stride 1 keeps the size.
    """

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
        self.conv = nn.Conv2d(
            channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
        )
        self.norm = BatchNorm2d(out_channels)
        self.relu = relu

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the map of ``out_channels`` channels."""
        y_nchw: Tensor = self.norm(self.conv(x_nchw))
        return F.relu(y_nchw, inplace=True) if self.relu else y_nchw
