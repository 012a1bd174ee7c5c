"""Residual bottleneck with Global Second-order Pooling."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.channel.gsop_channel import GSoPChannel
from attnzoo_vision.channel.gsop_position import GSoPPosition
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.rectify import rectify, rectify_


class GSoPBlock(nn.Module):
    """A residual bottleneck whose branch ends in second-order attention.

    ``y = relu(att(BN(conv3(relu(BN(conv2(relu(BN(conv1(x)))))))) + shortcut(x))``

    Args:
        channels: Channels of the input.
        hidden_channels: Channels in the middle, a quarter of those of the output; by default a quarter of ``channels``.
        stride: Step of the 3 x 3 convolution, pixels.
        attention: ``none``; ``channel`` or ``position``; or both: their ``sum``, their ``max``, or ``concat``, the sum
            of a grouped convolution of each, normalised.
        attention_channels: Channels that the covariances are taken of.
        attention_stride: Step at which pixels are taken for the covariances of channels; by default 2 up to 64
            ``hidden_channels`` and 1 above, as in the authors' ResNets.
        projection: Make the shortcut a 1 x 1 convolution with batch norm; without it, the shape must not change.

    Shape:
        ``(N, C, H, W)`` to ``(N, 4 hidden_channels, ceil(H / stride), ceil(W / stride))``.

    Raises:
        ValueError: The shape changes without ``projection``, ``attention`` is not known or does not fit
            ``hidden_channels``, or a number is less than 1.

    Source:
        Gao et al., "Global Second-order Pooling Convolutional Networks", CVPR 2019, arXiv:1811.12006, figure 2.
        Authors' code: github.com/ZilinGao/Global-Second-order-Pooling-Convolutional-Networks @ 662a699,
        torchvision/models/resnet.py, ``Bottleneck``.
        Deviations: as of ``GSoPChannel`` and ``GSoPPosition``.
    """

    def __init__(
        self,
        channels: int,
        *,
        hidden_channels: int | None = None,
        stride: int = 1,
        attention: Literal["none", "channel", "position", "sum", "max", "concat"] = "channel",
        attention_channels: int = 128,
        attention_stride: int | None = None,
        projection: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("GSoPBlock", 1, channels=channels, hidden_channels=hidden_channels, stride=stride)
        check_at_least("GSoPBlock", 1, attention_channels=attention_channels, attention_stride=attention_stride)
        middle = channels // 4 if hidden_channels is None else hidden_channels
        out, step = 4 * middle, (1 if middle > 64 else 2) if attention_stride is None else attention_stride
        _check(channels, middle, stride, attention, projection)
        self.kind, both = attention, attention in ("sum", "max", "concat")
        self.conv1 = ConvNorm(channels, middle)
        self.conv2 = ConvNorm(middle, middle, kernel_size=3, stride=stride)
        self.conv3 = ConvNorm(middle, out)
        self.shortcut = ConvNorm(channels, out, stride=stride) if projection else nn.Identity()
        use_channel, use_position = both or attention == "channel", both or attention == "position"
        self.channel = GSoPChannel(out, hidden_channels=attention_channels, stride=step) if use_channel else None
        self.position = GSoPPosition(out, hidden_channels=attention_channels) if use_position else None
        self.fusion = _Fusion(out) if attention == "concat" else None
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Draw the convolutions as the authors' network does: normal, by the number of outputs."""
        for conv in (m for m in self.modules() if isinstance(m, nn.Conv2d)):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the sum of the attended bottleneck and the shortcut."""
        attended_nchw = self._attend(self._branch(x_nchw))
        return rectify_(attended_nchw + self.shortcut(x_nchw))

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the maps of the parts in use: ``channel``, ``(N, C', 1, 1)``, and ``grid``, ``(N, 1, 8, 8)``."""
        branch_nchw = self._branch(x_nchw)
        parts = [part for part in (self.channel, self.position) if part is not None]
        return {name: value for part in parts for name, value in part.attention(branch_nchw).items()}

    def _branch(self, x_nchw: Tensor) -> Tensor:
        check_input("GSoPBlock", x_nchw, self.channels)
        branch_nchw: Tensor = self.conv3(rectify(self.conv2(rectify(self.conv1(x_nchw)))))
        return branch_nchw

    def _attend(self, branch_nchw: Tensor) -> Tensor:
        parts: list[Tensor] = [part(branch_nchw) for part in (self.channel, self.position) if part is not None]
        if not parts:
            return branch_nchw
        if len(parts) == 1:
            return parts[0]
        if self.fusion is not None:
            fused_nchw: Tensor = self.fusion(*parts)
            return fused_nchw
        return torch.maximum(*parts) if self.kind == "max" else parts[0] + parts[1]


class _Fusion(nn.Module):
    """The sum of a grouped vertical convolution of each of two maps, normalised."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        groups = channels // 64
        reach = int(math.log2(32 / groups)) + 2
        self.of_channel = nn.Conv2d(channels, channels, (2 * reach + 1, 1), padding=(reach, 0), groups=groups)
        self.of_position = nn.Conv2d(channels, channels, (2 * reach + 1, 1), padding=(reach, 0), groups=groups)
        self.norm = BatchNorm2d(channels)

    def forward(self, channel_nchw: Tensor, position_nchw: Tensor) -> Tensor:
        """Return the fused map."""
        fused_nchw: Tensor = self.norm(self.of_channel(channel_nchw) + self.of_position(position_nchw))
        return fused_nchw


def _check(channels: int, middle: int, stride: int, attention: str, projection: bool) -> None:
    check_choice("GSoPBlock", "attention", attention, ("none", "channel", "position", "sum", "max", "concat"))
    check_at_least("GSoPBlock", 1, hidden_channels=middle)
    message = ""
    if not projection and (stride != 1 or channels != 4 * middle):
        message = f"GSoPBlock: projection=False needs stride=1 and channels={4 * middle}, found {stride} and {channels}"
        message += f" with hidden_channels={middle}; use projection=True"
    elif attention == "concat" and (not 16 <= middle <= 512 or 4 * middle % (middle // 16)):
        message = f"GSoPBlock: attention='concat' with hidden_channels={middle}, expected 16 to 512, whose quadruple "
        message += "falls into hidden_channels // 16 groups; use a multiple of 16"
    if message:
        raise ValueError(message)
