"""The unit of residual and segmentation networks: convolution, batch norm and, if asked for, ReLU."""

from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.joined_norm import conv_and_norm
from attnzoo_vision.ops.rectify import rectify_


class ConvNorm(nn.Module):
    """Convolve, normalise over the batch, and apply ReLU if ``relu``.

    The padding is half the kernel, so that an odd kernel with stride 1 keeps the size.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        relu: bool = False,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.norm = BatchNorm2d(out_channels)
        self.relu = relu

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the map of ``out_channels`` channels."""
        y_nchw = conv_and_norm(self.conv, self.norm, x_nchw)
        return rectify_(y_nchw) if self.relu else y_nchw
