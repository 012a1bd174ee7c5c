"""Spatial path of BiSeNet."""

from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm


class SpatialPath(nn.Module):
    """Bring an image to an eighth of its size by three strided convolutions, and a 1x1 behind them.

    ``y = cbr1x1(cbr3x3_s2(cbr3x3_s2(cbr7x7_s2(x))))``, ``cbr(x) = relu(BN(conv(x)))``

    Args:
        channels: Channels of the image.
        out_channels: Channels of the output.
        hidden_channels: Channels of the strided convolutions.

    Shape:
        ``(N, C, H, W)`` to ``(N, out_channels, ceil(H / 8), ceil(W / 8))``; any H and W from 1 on.

    Raises:
        ValueError: A number of channels is below 1.

    Source:
        Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", ECCV 2018,
        arXiv:1808.00897, section 3.1. First author's code: github.com/ycszen/TorchSeg @ 62eeb15,
        model/bisenet/cityscapes.bisenet.R18/network.py.
        Deviations: none from the code; the paper has no 1x1 convolution.
    """

    def __init__(self, channels: int, out_channels: int, *, hidden_channels: int = 64) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("SpatialPath", 1, channels=channels, out_channels=out_channels, hidden_channels=hidden_channels)
        self.conv1 = ConvNorm(channels, hidden_channels, kernel_size=7, stride=2, relu=True)
        self.conv2 = ConvNorm(hidden_channels, hidden_channels, kernel_size=3, stride=2, relu=True)
        self.conv3 = ConvNorm(hidden_channels, hidden_channels, kernel_size=3, stride=2, relu=True)
        self.conv4 = ConvNorm(hidden_channels, out_channels, relu=True)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: Kaiming normal, as the authors do."""
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            nn.init.kaiming_normal_(layer.conv.weight, nonlinearity="relu")
            layer.norm.reset_parameters()

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the map at an eighth of the size."""
        check_input("SpatialPath", x_nchw, self.channels)
        y_nchw: Tensor = self.conv4(self.conv3(self.conv2(self.conv1(x_nchw))))
        return y_nchw
