"""Split ELA: ELA with a convolution and a norm of its own for rows and for columns, timm's variant."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.activation import Activation, Gate, get_activation, get_gate
from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input, check_odd
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.group_norm import GroupNorm
from attnzoo_vision.ops.strips import pool_strips, scale_by_strips, strip_maps


class SplitELA(nn.Module):
    """Scale each channel by a weight of its row and a weight of its column, from two convolutions.

    ``y = x * f_h(mean_w(x)) * f_w(mean_h(x))`` with ``f(s) = sigmoid(silu(GN(k * s + b)))``, one group in the norm.

    Args:
        channels: Channels of the input.
        kernel_size: Odd number of taps; the convolutions are depthwise.
        bias: Whether the convolutions have biases.
        norm: What follows a convolution: a ``group`` norm of one group, a ``batch`` norm, or ``none``.
        activation: What follows the norm.
        gate: Function that makes a weight of a number.
        shortcut: Whether the input is added to the output.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``kernel_size`` is even, or the norm, the activation or the gate is unknown.

    Source:
        Ross Wightman's variant of Xu and Wan, "ELA: Efficient Local Attention for Deep Convolutional Neural Networks",
        2024, arXiv:2403.01123. Code: github.com/huggingface/pytorch-image-models, timm 1.0.31,
        timm/layers/coord_attn.py, EfficientLocalAttn.
        Deviations: one-dimensional convolutions for theirs; the numbers are the same.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 7,
        bias: bool = False,
        norm: Literal["group", "batch", "none"] = "group",
        activation: Activation = "silu",
        gate: Gate = "sigmoid",
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("SplitELA", 1, channels=channels)
        check_odd("SplitELA", kernel_size=kernel_size)
        check_choice("SplitELA", "norm", norm, ("group", "batch", "none"))
        function = get_activation("SplitELA", activation)
        self.gate = get_gate("SplitELA", gate)
        self.shortcut = shortcut
        self.height = _Strip(channels, kernel_size, bias, norm, function)
        self.width = _Strip(channels, kernel_size, bias, norm, function)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the weights ``height``, ``(N, C, H, 1)``, and ``width``, ``(N, C, 1, W)``."""
        return strip_maps(*self._weights(x_nchw))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled by the weights of its row and column."""
        y_nchw = scale_by_strips(x_nchw, *self._weights(x_nchw))
        return y_nchw + x_nchw if self.shortcut else y_nchw

    def _weights(self, x_nchw: Tensor) -> tuple[Tensor, Tensor]:
        check_input("SplitELA", x_nchw, self.channels)
        rows_nch, columns_ncw = pool_strips(x_nchw)
        return self.gate(self.height(rows_nch)), self.gate(self.width(columns_ncw))


class _Strip(nn.Module):
    def __init__(
        self, channels: int, kernel_size: int, bias: bool, norm: str, activation: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.activation = activation
        self.conv = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=bias)
        self.norm: GroupNorm | BatchNorm1d | None = None
        if norm != "none":
            self.norm = GroupNorm(1, channels) if norm == "group" else BatchNorm1d(channels)

    def forward(self, x_ncl: Tensor) -> Tensor:
        """Return the logits of a row or column, up to the gate."""
        y_ncl = convolve(self.conv, x_ncl)
        if self.norm is not None:
            y_ncl = self.norm(y_ncl)
        return self.activation(y_ncl)
