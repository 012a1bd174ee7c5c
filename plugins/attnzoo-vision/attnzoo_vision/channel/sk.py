"""Selective Kernel convolution."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.activation import Activation, get_fresh_activation
from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.branches import pooled_sum, weighted_sum
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input, check_odd
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.draw import draw_as_caffe


class SK(nn.Module):
    """Convolve with several kernels and sum the results, each channel by weights that the kernels compete for.

    ``u_b = relu(BN(conv_b(x)))``, ``y = sum_b softmax_b(W2 relu(BN(W1 mean_hw(sum_b u_b))))_b * u_b``

    Args:
        channels: Channels of the input.
        out_channels: Channels of the output; as many as the input by default.
        kernel_size: Side of each kernel, pixels, odd; one branch for each.
        dilated: Make each kernel larger than 3 of 3 x 3 taps that lie apart.
        stride: Step of the convolutions, pixels.
        groups: Number of groups of the convolutions, cut down to ``out_channels``.
        reduction: Divisor of ``out_channels`` that gives the number of hidden units, at least 32.
        hidden_channels: Number of hidden units; given, it takes the place of ``reduction``.
        split_input: Give each branch its share of the input's channels instead of all.
        select_bias: Give the last layer, ``W2``, a bias.
        dilation: Distance between taps, pixels, on top of ``dilated``.
        activation: What follows the convolutions; a ReLU always follows the hidden units.

    Shape:
        ``(N, C, H, W)`` to ``(N, C', ceil(H / stride), ceil(W / stride))``.

    Raises:
        ValueError: A kernel is even, a number is less than 1, or a number of channels is not divisible as it must be.

    Source:
        Li et al., "Selective Kernel Networks", CVPR 2019, arXiv:1903.06586, eq. 1-6.
        Authors' code: github.com/implus/SKNet @ 17dd708, models/sknet50.prototxt.
        Deviations: linear layers for their 1x1 convolutions; the batch norms keep PyTorch's momentum of 0.1, where
        their Caffe layers have 0.95, which is 0.05 here. ``split_input`` is an option of timm, ``select_bias`` of
        syt2/SKNet. A training batch of one sample is normalised with the running statistics.
    """

    def __init__(
        self,
        channels: int,
        *,
        out_channels: int | None = None,
        kernel_size: list[int] | tuple[int, ...] = (3, 5),
        dilated: bool = True,
        stride: int = 1,
        groups: int = 32,
        reduction: int = 16,
        hidden_channels: int | None = None,
        split_input: bool = False,
        select_bias: bool = False,
        dilation: int = 1,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("SK", 1, channels=channels, out_channels=out_channels, stride=stride, groups=groups)
        check_at_least("SK", 1, reduction=reduction, hidden_channels=hidden_channels, dilation=dilation)
        out, count = out_channels or channels, len(kernel_size)
        _check(channels, out, kernel_size, min(groups, out), split_input)
        hidden = max(out // reduction, 32) if hidden_channels is None else hidden_channels
        self.split_input = split_input
        self.activation = get_fresh_activation("SK", activation)
        self.branches = nn.ModuleList(
            ConvNorm(
                channels // count if split_input else channels,
                out,
                kernel_size=3 if dilated else size,
                stride=stride,
                dilation=dilation * (size - 1) // 2 if dilated else dilation,
                groups=min(groups, out),
            )
            for size in kernel_size
        )
        self.squeeze = nn.Linear(out, hidden, bias=False)
        self.norm = BatchNorm1d(hidden)
        self.select = nn.Linear(hidden, count * out, bias=select_bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as the authors do: convolutions normal by fan-in, the two layers normal with std 0.01."""
        draw_as_caffe(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the sum of the branches, each channel scaled by its weights."""
        maps = self._maps(x_nchw)
        return weighted_sum(maps, self._weight(maps))

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``branch``, the weights of the branches, ``(N, B, C', 1, 1)``; they sum to 1 over B."""
        return {"branch": self._weight(self._maps(x_nchw))[:, :, :, None, None]}

    def _maps(self, x_nchw: Tensor) -> list[Tensor]:
        check_input("SK", x_nchw, self.channels)
        count = len(self.branches)
        inputs = x_nchw.chunk(count, dim=1) if self.split_input else (x_nchw,) * count
        return [self.activation(branch(part)) for branch, part in zip(self.branches, inputs, strict=True)]

    def _weight(self, maps: list[Tensor]) -> Tensor:
        hidden_nr = torch.relu(self.norm(self.squeeze(pooled_sum(maps))))
        logit_nbc: Tensor = self.select(hidden_nr).unflatten(1, (len(self.branches), -1))
        return logit_nbc.softmax(dim=1)


def _check(channels: int, out_channels: int, kernel_size: Sequence[int], groups: int, split_input: bool) -> None:
    for size in kernel_size:
        check_odd("SK", kernel_size=size)
    message = ""
    part = channels // len(kernel_size) if split_input and kernel_size else channels
    if not kernel_size:
        message = f"SK: kernel_size={kernel_size!r} is empty; give odd numbers, as in [3, 5]"
    elif part * len(kernel_size) != channels and split_input:
        count = len(kernel_size)
        message = f"SK: split_input=True does not share channels={channels} evenly among {count} branches; "
        message += f"use a multiple of {count}"
    if message:
        raise ValueError(message)
    check_divides("SK", "groups", groups, f"channels // {len(kernel_size)}" if split_input else "channels", part)
    check_divides("SK", "groups", groups, "out_channels", out_channels)
