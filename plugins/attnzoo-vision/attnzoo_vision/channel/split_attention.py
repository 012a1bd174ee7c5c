"""Split-Attention convolution (ResNeSt)."""

from torch import Tensor, nn

from attnzoo_vision.ops.activation import Activation, get_fresh_activation
from attnzoo_vision.ops.batch_norm import BatchNorm1d, BatchNorm2d
from attnzoo_vision.ops.branches import pooled_sum, weighted_sum
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input
from attnzoo_vision.ops.draw import by_outputs, draw_anew
from attnzoo_vision.ops.grouped_linear import GroupedLinear
from attnzoo_vision.ops.joined_norm import conv_and_norm, fresh_norm


class SplitAttention(nn.Module):
    """Convolve into several splits and sum them, each channel by weights that the splits compete for.

    ``u = relu(BN(conv(x)))``, ``y = sum_r softmax_r(W2 relu(BN(W1 mean_hw(sum_r u_r))))_r * u_r``

    Args:
        channels: Channels of the input.
        out_channels: Channels of the output; as many as the input by default.
        kernel_size: Side of the convolution's window, pixels.
        stride: Step of the convolution, pixels.
        padding: Zeros around the input; half the window by default.
        dilation: Distance between the taps of the window, pixels.
        groups: Cardinality: number of groups, of all layers.
        radix: Number of splits; with one, the weights are sigmoids.
        hidden_channels: Hidden units of the attention; ``max(channels * radix // 4, 32)`` by default.
        bias: Give the convolution a bias.
        norm: Batch norms after the convolution and in the attention.
        activation: What follows the norms.

    Shape:
        ``(N, C, H, W)`` to ``(N, C', H', W')``, as the convolution has it.

    Raises:
        ValueError: ``groups`` or ``groups * radix`` does not divide a number of channels, a number is out of range, or
            an activation is not known.

    Source:
        Zhang et al., "ResNeSt: Split-Attention Networks", arXiv:2004.08955, eq. 1-2 and figure 2.
        Authors' code: github.com/zhanghang1989/ResNeSt @ 1dfb3e8, resnest/torch/models/splat.py, ``SplAtConv2d``.
        Deviations: no rectified convolution and no DropBlock, which is a stub there; grouped linear layers for their
        grouped 1x1 convolutions; the weights start as the authors' ``ResNet`` draws them, where their class alone keeps
        PyTorch's; a training batch of one sample, which they refuse, is normalised with the running statistics.
    """

    def __init__(
        self,
        channels: int,
        *,
        out_channels: int | None = None,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        radix: int = 2,
        hidden_channels: int | None = None,
        bias: bool = False,
        norm: bool = True,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("SplitAttention", 1, channels=channels, out_channels=out_channels, kernel_size=kernel_size)
        check_at_least("SplitAttention", 1, stride=stride, dilation=dilation, groups=groups, radix=radix)
        check_at_least("SplitAttention", 1, hidden_channels=hidden_channels)
        out = channels if out_channels is None else out_channels
        hidden = max(channels * radix // 4, 32) if hidden_channels is None else hidden_channels
        pad = kernel_size // 2 if padding is None else padding
        check_at_least("SplitAttention", 0, padding=padding)
        check_divides("SplitAttention", "groups", groups, "channels", channels, factor=radix, factor_name="radix")
        check_divides("SplitAttention", "groups", groups, "out_channels", out)
        check_divides("SplitAttention", "groups", groups, "hidden_channels", hidden)
        self.radix, self.groups = radix, groups
        self.activation = get_fresh_activation("SplitAttention", activation)
        self.conv = nn.Conv2d(channels, out * radix, kernel_size, stride, pad, dilation, groups * radix, bias)
        self.conv_norm = BatchNorm2d(out * radix) if norm else nn.Identity()
        self.squeeze = GroupedLinear(out, hidden, groups=groups)
        self.squeeze_norm = BatchNorm1d(hidden) if norm else nn.Identity()
        self.select = GroupedLinear(hidden, out * radix, groups=groups)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as the authors' network does: normal, by the number of outputs; biases as PyTorch's."""
        draw_anew(self, conv=by_outputs, linear=by_outputs, zero_biases=False)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the sum of the splits, each channel scaled by its weights."""
        splits = self._splits(x_nchw)
        return weighted_sum(splits, self._weight(splits))

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``split``, the weights of the splits, ``(N, radix, C', 1, 1)``; they sum to 1 if there are several."""
        return {"split": self._weight(self._splits(x_nchw))[:, :, :, None, None]}

    def _splits(self, x_nchw: Tensor) -> tuple[Tensor, ...]:
        check_input("SplitAttention", x_nchw, self.channels)
        return self.activation(conv_and_norm(self.conv, self.conv_norm, x_nchw)).chunk(self.radix, dim=1)

    def _weight(self, splits: tuple[Tensor, ...]) -> Tensor:
        hidden_nr = self.activation(fresh_norm(self.squeeze_norm, self.squeeze(pooled_sum(splits))))
        # the layer gives group after group, in each split after split; the splits are cut the other way round
        logit_ngsc = self.select(hidden_nr).unflatten(1, (self.groups, self.radix, -1))
        logit_nsc: Tensor = logit_ngsc.transpose(1, 2).flatten(2)
        return logit_nsc.softmax(dim=1) if self.radix > 1 else logit_nsc.sigmoid()
