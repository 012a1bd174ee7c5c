"""A convolution followed by batch norm."""

from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.fold import conv_and_norm


class ConvNorm(nn.Module):
    """Convolve, keeping the size at stride 1, then normalise over the batch."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.norm = BatchNorm2d(out_channels)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the normalised map."""
        return conv_and_norm(self.conv, self.norm, x_nchw)
