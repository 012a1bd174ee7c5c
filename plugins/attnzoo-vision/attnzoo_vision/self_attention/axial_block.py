"""Residual bottleneck of Axial-DeepLab."""

from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.rectify import rectify, rectify_
from attnzoo_vision.self_attention.position_sensitive_axial_attention import PositionSensitiveAxialAttention


class AxialBlock(nn.Module):
    """Residual bottleneck of a ResNet whose 3x3 convolution is attention along the height, then along the width.

    ``y = relu(shortcut(x) + norm(expand relu(width(height(relu(norm(reduce x)))))))``

    Args:
        channels: Channels of the input.
        out_channels: Channels of the output; ``channels`` if left out.
        hidden_channels: Channels of the attention; half of ``out_channels`` if left out.
        num_heads: Heads.
        kernel_size: Height and width that the tables of relative places are made for.
        stride: Average pooling behind the attention; the shortcut is then a strided 1x1 convolution.

    Shape:
        ``(N, C, H, W)`` to ``(N, out_channels, H / stride, W / stride)``; H and W at most ``kernel_size``, multiples of
        ``stride``.

    Raises:
        ValueError: ``num_heads`` does not divide ``hidden_channels`` into heads of even width, or an axis is longer
            than ``kernel_size``.

    Source:
        Wang et al., "Axial-DeepLab: Stand-Alone Axial-Attention for Panoptic Segmentation", ECCV 2020,
        arXiv:2003.07853, fig. 2. Authors' code: github.com/csrhddlam/axial-deeplab @ 79088ed, lib/models/axialnet.py,
        class AxialBlock. Deviations: the shortcut's projection is part of the block; theirs is handed in.
    """

    def __init__(
        self,
        channels: int,
        *,
        out_channels: int | None = None,
        hidden_channels: int | None = None,
        num_heads: int = 8,
        kernel_size: int = 56,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.channels = channels
        name = "AxialBlock"
        check_at_least(name, 1, channels=channels, out_channels=out_channels, hidden_channels=hidden_channels)
        check_at_least(name, 1, num_heads=num_heads, kernel_size=kernel_size, stride=stride)
        out = channels if out_channels is None else out_channels
        hidden = out // 2 if hidden_channels is None else hidden_channels
        check_at_least(name, 1, hidden_channels=hidden)
        check_divides(name, "num_heads", num_heads, "hidden_channels", hidden, factor=2)
        self.reduce = ConvNorm(channels, hidden, relu=True)
        self.height = PositionSensitiveAxialAttention(hidden, num_heads=num_heads, kernel_size=kernel_size)
        self.width = PositionSensitiveAxialAttention(
            hidden, num_heads=num_heads, kernel_size=kernel_size, axis="width", stride=stride
        )
        self.expand = ConvNorm(hidden, out)
        self.shortcut: ConvNorm | None = None
        if stride != 1 or out != channels:
            self.shortcut = ConvNorm(channels, out, stride=stride)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Initialise as the authors' network does; the last norm starts at zero, the block as its shortcut."""
        for unit in (self.reduce, self.expand, self.shortcut):
            if unit is not None:
                nn.init.kaiming_normal_(unit.conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.expand.norm.weight)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the shortcut plus the attended bottleneck, rectified."""
        check_input("AxialBlock", x_nchw, self.channels)
        shortcut_nohw = x_nchw if self.shortcut is None else self.shortcut(x_nchw)
        attended_nrhw = rectify(self.width(self.height(self.reduce(x_nchw))))
        return rectify_(self.expand(attended_nrhw) + shortcut_nohw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``height`` and ``width``: for each line and head, the weight of every key for every query."""
        check_input("AxialBlock", x_nchw, self.channels)
        hidden_nrhw = self.reduce(x_nchw)
        return {
            "height": self.height.attention(hidden_nrhw)["axis"],
            "width": self.width.attention(self.height(hidden_nrhw))["axis"],
        }
