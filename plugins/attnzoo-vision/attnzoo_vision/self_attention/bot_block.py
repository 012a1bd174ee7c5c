"""Residual bottleneck of the bottleneck transformer."""

from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.activation import Activation, get_activation
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.sizes import pair
from attnzoo_vision.self_attention.bot_mhsa import BotMHSA, Position


class BotBlock(nn.Module):
    """Residual bottleneck of a ResNet whose 3x3 convolution is all-to-all attention.

    ``y = relu(shortcut(x) + norm(expand relu(norm(mhsa(relu(norm(reduce x)))))))``

    Args:
        channels: Channels of the input.
        feature_size: Height and width of the input; one number for both.
        out_channels: Channels of the output; ``channels`` if left out.
        hidden_channels: Channels in front of the attention; a quarter of ``out_channels`` if left out.
        num_heads: Heads of the attention.
        head_dim: Width of a head.
        stride: 2 halves the map: behind the attention, and in a 3x3 convolution of the shortcut.
        position: ``relative`` or ``absolute`` places.
        activation: What follows the batch norms and the sum, where the formula says relu.

    Shape:
        ``(N, C, H, W)`` to ``(N, out_channels, H / stride, W / stride)``; H and W at most ``feature_size``; even for
        stride 2.

    Raises:
        ValueError: ``stride``, ``position`` or ``activation`` is unknown, or the map is larger than ``feature_size``.

    Source:
        Srinivas et al., "Bottleneck Transformers for Visual Recognition", CVPR 2021, arXiv:2101.11605, fig. 3.
        Code: lucidrains/bottleneck-transformer-pytorch @ 440fbdc (the authors published a gist).
        Deviations: none.
    """

    def __init__(
        self,
        channels: int,
        feature_size: int | list[int],
        *,
        out_channels: int | None = None,
        hidden_channels: int | None = None,
        num_heads: int = 4,
        head_dim: int = 128,
        stride: int = 1,
        position: Position = "relative",
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        name = "BotBlock"
        check_at_least(name, 1, channels=channels, feature_size=feature_size, out_channels=out_channels)
        check_at_least(name, 1, hidden_channels=hidden_channels, num_heads=num_heads, head_dim=head_dim)
        check_choice(name, "stride", stride, (1, 2))
        check_choice(name, "position", position, ("relative", "absolute"))
        out = channels if out_channels is None else out_channels
        hidden = max(1, out // 4) if hidden_channels is None else hidden_channels
        inner = num_heads * head_dim
        self.channels, self.activation = channels, get_activation(name, activation)
        self.shortcut: ConvNorm | None = None
        if out != channels or stride == 2:
            kernel_size = 3 if stride == 2 else 1
            self.shortcut = ConvNorm(channels, out, kernel_size=kernel_size, stride=stride)
        self.reduce = ConvNorm(channels, hidden)
        self.mhsa = BotMHSA(
            hidden,
            list(pair(name, "feature_size", feature_size)),
            out_channels=inner,
            num_heads=num_heads,
            head_dim=head_dim,
            stride=stride,
            position=position,
        )
        self.norm = BatchNorm2d(inner)
        self.expand = ConvNorm(inner, out)
        nn.init.zeros_(self.expand.norm.weight)

    def reset_parameters(self) -> None:
        """Give every part its start anew; the last norm gives zero, the block its shortcut."""
        reset_layers(self)
        nn.init.zeros_(self.expand.norm.weight)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the shortcut plus the attended bottleneck, activated."""
        check_input("BotBlock", x_nchw, self.channels)
        shortcut_nohw = x_nchw if self.shortcut is None else self.activation(self.shortcut(x_nchw))
        inner_nihw = self.activation(self.norm(self.mhsa(self.activation(self.reduce(x_nchw)))))
        return self.activation(self.expand(inner_nihw) + shortcut_nohw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``pairwise``, the weight of every key (column) for every query (row) in each head."""
        check_input("BotBlock", x_nchw, self.channels)
        return self.mhsa.attention(self.activation(self.reduce(x_nchw)))
