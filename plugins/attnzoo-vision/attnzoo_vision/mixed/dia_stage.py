"""DIA stage: residual blocks whose channel weights come from one recurrent unit that sees them one after another."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.mixed.dia_cell import DIACell
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_input, check_multiple
from attnzoo_vision.ops.convolution import convolve_through
from attnzoo_vision.ops.draw import by_outputs, draw_anew
from attnzoo_vision.ops.joined_norm import conv_and_norm
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.rectify import rectify_
from attnzoo_vision.ops.tokens import add_shortcut


class DIAStage(nn.Module):
    """Run residual bottlenecks and scale each branch by weights from a recurrent unit shared by all of them.

    For each block: ``h, c = cell(mean_hw(branch(x)), h, c)``; ``x = relu(branch(x) * h + shortcut(x))``; ``h`` and
    ``c`` start at zero.

    Args:
        channels: Channels of the input.
        out_channels: Channels of the output; None for ``channels``.
        num_blocks: Number of bottlenecks.
        stride: Stride of the first bottleneck in pixels.
        reduction: Divisor of ``out_channels`` that gives the units inside the recurrent unit, rounded down.

    Shape:
        ``(N, C, H, W)`` to ``(N, O, ceil(H / stride), ceil(W / stride))``; any H and W from 1 on.

    Raises:
        ValueError: 4 does not divide ``out_channels``, ``reduction`` is above it, or an argument is less than 1.

    Source:
        Huang et al., "DIANet: Dense-and-Implicit Attention Network", AAAI 2020, arXiv:1905.10671, section 3.
        Authors' code: github.com/gbup-group/DIANet @ 51685ca, models/cifar/dia_resnet.py, Attention and Bottleneck.
        Deviations: none in the numbers; theirs works for 64, 128 and 256 channels and on CUDA alone.
    """

    def __init__(
        self,
        channels: int,
        *,
        out_channels: int | None = None,
        num_blocks: int = 2,
        stride: int = 1,
        reduction: int = 4,
    ) -> None:
        super().__init__()
        self.channels = channels
        sizes = {"channels": channels, "out_channels": out_channels, "stride": stride, "reduction": reduction}
        check_at_least("DIAStage", 1, **sizes, num_blocks=num_blocks)
        out_channels = channels if out_channels is None else out_channels
        check_multiple("DIAStage", 4, out_channels=out_channels)
        check_at_most("DIAStage", "reduction", reduction, "out_channels", out_channels)
        first = _Bottleneck(channels, out_channels, stride)
        rest = [_Bottleneck(out_channels, out_channels, 1) for _ in range(num_blocks - 1)]
        self.blocks = nn.ModuleList([first, *rest])
        self.cell = DIACell(out_channels, reduction=reduction)

    def reset_parameters(self) -> None:
        """Give every block, and the cell, its start anew."""
        reset_layers(self)

    def attention(self, x_nihw: Tensor) -> dict[str, Tensor]:
        """Return the channel weights of every block, ``channel``: ``(B, N, O, 1, 1)``."""
        check_input("DIAStage", x_nihw, self.channels)
        return {"channel": torch.stack(self._run(x_nihw)[1])}

    def forward(self, x_nihw: Tensor) -> Tensor:
        """Return the output of the last block."""
        check_input("DIAStage", x_nihw, self.channels)
        return self._run(x_nihw)[0]

    def _run(self, x_nchw: Tensor) -> tuple[Tensor, list[Tensor]]:
        hidden_1no: Tensor | None = None
        state_1no: Tensor | None = None
        weights: list[Tensor] = []
        for block in self.blocks:
            branch_nohw, shortcut_nohw = block(x_nchw)
            hidden_1no, state_1no = self.cell(global_mean(branch_nohw), hidden_1no, state_1no)
            weights.append(hidden_1no[-1, :, :, None, None])
            x_nchw = rectify_(add_shortcut(branch_nohw * weights[-1], shortcut_nohw))
        return x_nchw, weights


class _Bottleneck(nn.Module):
    """Bottleneck that leaves the addition to its caller."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        width = out_channels // 4
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = BatchNorm2d(out_channels)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or channels != out_channels:
            projection = nn.Conv2d(channels, out_channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, BatchNorm2d(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the convolutions as the authors' network does."""
        draw_anew(self, conv=by_outputs, linear=None, zero_biases=True)

    def forward(self, x_nihw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the branch and the shortcut, both ``(N, O, H, W)``."""
        y_nrhw = rectify_(conv_and_norm(self.conv1, self.bn1, x_nihw))
        y_nrhw = rectify_(conv_and_norm(self.conv2, self.bn2, y_nrhw))
        shortcut_nohw = x_nihw
        if self.shortcut is not None:
            shortcut_nohw = convolve_through(self.shortcut, x_nihw)
        return conv_and_norm(self.conv3, self.bn3, y_nrhw), shortcut_nohw
