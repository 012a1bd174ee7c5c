"""Contextual transformer layer of CoTNeXt, in two groups."""

from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_input, check_multiple, check_odd
from attnzoo_vision.ops.compiling import kept_silu
from attnzoo_vision.ops.contextual import Fusion, aggregate_locally
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.draw import by_outputs, draw_anew
from attnzoo_vision.ops.group_norm import GroupNorm
from attnzoo_vision.ops.layout import interleave


class CoXtLayer(nn.Module):
    """Sum values over each pixel's neighbourhood with weights from the pixel and its context, in two channel groups.

    ``k = relu(norm(conv_k x))``, ``w = group_norm(W2 relu(norm(W1 [x_0, k_0, x_1, k_1, ...])))``,
    ``d = silu(norm(sum_tap w_tap shift_tap(norm(V x))))``, ``y = a_d d + a_k k``, ``a = softmax(fusion(mean(d + k)))``.
    ``W1``, ``W2`` and ``V`` have two groups, ``conv_k`` eight. No softmax over the weights; within a group, channels
    ``c`` and ``c + C / 16`` share them.

    Args:
        channels: Channels of input and output, divisible by 16.
        kernel_size: Size of the neighbourhood and of the context convolution, an odd number.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``channels`` is not divisible by 16, or ``kernel_size`` is even.

    Source:
        Li et al., "Contextual Transformer Networks for Visual Recognition", TPAMI 2022, arXiv:2107.12292, sec. 3.3.
        Authors' code: github.com/JDAI-CV/CoTNet @ 895e024, models/cotnet.py, class CoXtLayer.
        Deviations: ``nn.Linear`` for convolutions of a pooled value. One sample alone is normalised in the fusion with
        the running statistics in training, where theirs raises.
    """

    def __init__(self, channels: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        self.channels = channels
        check_multiple("CoXtLayer", 16, channels=channels)
        check_odd("CoXtLayer", kernel_size=kernel_size)
        self.kernel_size = kernel_size
        taps = kernel_size**2
        self.context = ConvNorm(channels, channels, kernel_size=kernel_size, groups=8, relu=True)
        self.embed = ConvNorm(2 * channels, channels // 2, groups=2, relu=True)
        self.weight = nn.Conv2d(channels // 2, taps * channels // 8, 1, groups=2)
        self.weight_norm = GroupNorm(channels // 8, taps * channels // 8)
        self.value = ConvNorm(channels, channels, groups=2)
        self.norm = BatchNorm2d(channels)
        self.fusion = Fusion(channels, max(channels // 2, 32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: Kaiming normal by fan-out, as in the authors' network."""
        draw_anew(self, conv=by_outputs, linear=by_outputs, zero_biases=False)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the mix of the dynamic sums and the static context."""
        y: Tensor = self.fusion(*self._maps(x_nchw))
        return y

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``fusion``, the weights of the dynamic and the static map of each channel."""
        return {"fusion": self.fusion.weights(*self._maps(x_nchw))}

    def _maps(self, x_nchw: Tensor) -> tuple[Tensor, Tensor]:
        check_input("CoXtLayer", x_nchw, self.channels)
        context_nchw = self.context(x_nchw)
        hidden_nchw = self.embed(interleave(x_nchw, context_nchw))
        weight_nkhw = self.weight_norm(convolve(self.weight, hidden_nchw))
        y_nchw = aggregate_locally(self.value(x_nchw), weight_nkhw, self.kernel_size, 2)
        return kept_silu(self.norm(y_nchw)), context_nchw
