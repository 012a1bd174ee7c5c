"""Residual bottleneck with Selective Kernels, as their first author modified them."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm1d, BatchNorm2d
from attnzoo_vision.ops.branches import pooled_sum, weighted_sum
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_divides, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.rectify import rectify, rectify_


class SKBlock(nn.Module):
    """A residual bottleneck whose 3 x 3 convolution is a weighted sum of a dense one and a grouped one.

    ``u = relu(BN(conv1(x)))``, ``d_b = relu(BN(conv_b(u)))``, ``a = softmax_b(W2 relu(BN(W1 mean_hw(d_1 + d_2))))``,
    ``y = relu(BN(conv3(a_1 d_1 + a_2 d_2)) + shortcut(x))``

    Args:
        channels: Channels of the input.
        hidden_channels: Channels in the middle, a quarter of those of the output. By default a quarter of ``channels``.
        stride: Step of the 3 x 3 convolutions, pixels.
        groups: Number of groups of the second of them.
        reduction: Divisor of ``hidden_channels`` that gives the units of the attention.
        projection: Make the shortcut a 1 x 1 convolution with batch norm; without it, the shape must not change.

    Shape:
        ``(N, C, H, W)`` to ``(N, 4 hidden_channels, ceil(H / stride), ceil(W / stride))``.

    Raises:
        ValueError: ``groups`` does not divide ``hidden_channels``, ``reduction`` leaves no unit, a number is less
            than 1, or the shape changes without ``projection``.

    Source:
        Li et al., "Selective Kernel Networks", CVPR 2019, arXiv:1903.06586, as in the first author's
        github.com/implus/PytorchInsight @ 2864528, classification/models/imagenet/resnet_sk.py, ``Bottleneck``.
        Deviations: linear layers for their 1x1 convolutions of one pixel; a training batch of one
        sample, which theirs refuses, is normalised with the running statistics.
    """

    def __init__(
        self,
        channels: int,
        *,
        hidden_channels: int | None = None,
        stride: int = 1,
        groups: int = 32,
        reduction: int = 16,
        projection: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("SKBlock", 1, channels=channels, hidden_channels=hidden_channels, stride=stride)
        check_at_least("SKBlock", 1, groups=groups, reduction=reduction)
        middle = channels // 4 if hidden_channels is None else hidden_channels
        _check(channels, middle, stride, groups, reduction, projection)
        self.reduce = ConvNorm(channels, middle)
        self.dense = ConvNorm(middle, middle, kernel_size=3, stride=stride)
        self.grouped = ConvNorm(middle, middle, kernel_size=3, stride=stride, groups=groups)
        self.squeeze = nn.Linear(middle, middle // reduction, bias=False)
        self.norm = BatchNorm1d(middle // reduction)
        self.select = nn.Linear(middle // reduction, 2 * middle, bias=False)
        self.expand = ConvNorm(middle, 4 * middle)
        self.shortcut = ConvNorm(channels, 4 * middle, stride=stride) if projection else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the convolutions as the authors' network does: normal, by the number of outputs."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BatchNorm1d | BatchNorm2d):
                module.reset_parameters()
        for layer in (self.squeeze, self.select):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the sum of the bottleneck and the shortcut."""
        maps = self._maps(x_nchw)
        selected_nchw = weighted_sum(maps, self._weight(maps))
        return rectify_(self.expand(selected_nchw) + self.shortcut(x_nchw))

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``branch``, the weights of the dense and the grouped branch, ``(N, 2, C', 1, 1)``; they sum to 1."""
        return {"branch": self._weight(self._maps(x_nchw))[:, :, :, None, None]}

    def _maps(self, x_nchw: Tensor) -> list[Tensor]:
        check_input("SKBlock", x_nchw, self.channels)
        reduced_nchw = rectify(self.reduce(x_nchw))
        return [rectify(self.dense(reduced_nchw)), rectify(self.grouped(reduced_nchw))]

    def _weight(self, maps: list[Tensor]) -> Tensor:
        hidden_nr = torch.relu(self.norm(self.squeeze(pooled_sum(maps))))
        logit_nbc: Tensor = self.select(hidden_nr).unflatten(1, (2, -1))
        return logit_nbc.softmax(dim=1)


def _check(channels: int, middle: int, stride: int, groups: int, reduction: int, projection: bool) -> None:
    check_at_least("SKBlock", 1, hidden_channels=middle)
    check_divides("SKBlock", "groups", groups, "hidden_channels", middle)
    check_at_most("SKBlock", "reduction", reduction, "hidden_channels", middle)
    if not projection and (stride != 1 or channels != 4 * middle):
        message = f"SKBlock: projection=False needs stride=1 and channels={4 * middle}, found {stride} and {channels}"
        message += "; use projection=True"
        raise ValueError(message)
