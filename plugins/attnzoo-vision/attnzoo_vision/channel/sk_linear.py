"""Selective Kernel convolution with a linear bottleneck."""

from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.branches import pooled_sum, weighted_sum
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input, check_odd
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.rectify import rectify


class SKLinear(nn.Module):
    """Convolve with several kernels and sum the results, by weights from two linear layers with nothing in between.

    ``u_b = relu(BN(conv_b(x)))``, ``y = sum_b softmax_b(W_b (W mean_hw(sum_b u_b) + c) + c_b)_b * u_b``

    Args:
        channels: Channels of the input and of the output.
        kernel_size: Side of each kernel, pixels, odd; one branch for each.
        stride: Step of the convolutions, pixels.
        groups: Number of groups of the convolutions.
        reduction: Divisor of ``channels`` that gives the number of hidden units, at least 32.
        hidden_channels: Number of hidden units; given, it takes the place of ``reduction``.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, ceil(H / stride), ceil(W / stride))``.

    Raises:
        ValueError: A kernel is even, a number is less than 1, or ``groups`` does not divide ``channels``.

    Source:
        Not the paper's block (arXiv:1903.06586; see ``sk``) but the port that is copied most:
        github.com/pppLang/SKNet @ ef76d8d, sknet.py, ``SKConv``.
        Deviations: none in the numbers, nor in the initialisation, which is PyTorch's; its argument ``WH`` has no
        effect on maps of that size and is left out.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: list[int] | tuple[int, ...] = (3, 5),
        stride: int = 1,
        groups: int = 8,
        reduction: int = 2,
        hidden_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("SKLinear", 1, channels=channels, stride=stride, groups=groups)
        check_at_least("SKLinear", 1, reduction=reduction, hidden_channels=hidden_channels)
        for size in kernel_size:
            check_odd("SKLinear", kernel_size=size)
        if not kernel_size:
            message = f"SKLinear: kernel_size={kernel_size!r} is empty; give odd numbers, as in [3, 5]"
            raise ValueError(message)
        check_divides("SKLinear", "groups", groups, "channels", channels)
        hidden = max(channels // reduction, 32) if hidden_channels is None else hidden_channels
        self.branches = nn.ModuleList(
            ConvNorm(channels, channels, kernel_size=size, stride=stride, groups=groups, bias=True)
            for size in kernel_size
        )
        self.squeeze = nn.Linear(channels, hidden)
        self.select = nn.Linear(hidden, len(kernel_size) * channels)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the sum of the branches, each channel scaled by its weights."""
        maps = self._maps(x_nchw)
        return weighted_sum(maps, self._weight(maps))

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``branch``, the weights of the branches, ``(N, B, C, 1, 1)``; they sum to 1 over B."""
        return {"branch": self._weight(self._maps(x_nchw))[:, :, :, None, None]}

    def _maps(self, x_nchw: Tensor) -> list[Tensor]:
        check_input("SKLinear", x_nchw, self.channels)
        return [rectify(branch(x_nchw)) for branch in self.branches]

    def _weight(self, maps: list[Tensor]) -> Tensor:
        logit_nbc: Tensor = self.select(self.squeeze(pooled_sum(maps))).unflatten(1, (len(maps), -1))
        return logit_nbc.softmax(dim=1)
