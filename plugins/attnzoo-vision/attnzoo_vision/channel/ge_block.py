"""Pre-activation residual block with Gather-Excite."""

from typing import Literal

from torch import Tensor, nn

from attnzoo_vision.channel.gather_excite import GatherExcite
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.joined_norm import conv_and_norm
from attnzoo_vision.ops.rectify import rectify


class GEBlock(nn.Module):
    """A residual block of two 3 x 3 convolutions whose branch passes through Gather-Excite.

    ``a = relu(BN(x))``, ``y = shortcut + GE(conv2(dropout(relu(BN(conv1(a))))))``; the shortcut is x, or a 1 x 1
    convolution of a if the number of channels changes

    Args:
        channels: Channels of the input.
        out_channels: Channels of the output; as many as the input by default.
        stride: Step of the first convolution, pixels.
        extent: As in ``GatherExcite``: step between the places that are gathered at, 0 for the whole map.
        gather: As in ``GatherExcite``: ``mean`` or ``conv``.
        size: Height and width, after ``stride``, of the kernel of a ``conv`` of the whole map.
        grid: Take the mean over a grid of so many squares a side instead of windows.
        hidden_channels: Hidden units of the excitation; none by default.
        dropout: Probability of a zero between the convolutions.

    Shape:
        ``(N, C, H, W)`` to ``(N, C', ceil(H / stride), ceil(W / stride))``, not smaller than ``size``.

    Raises:
        ValueError: ``stride`` is not 1 although the number of channels stays, a number is out of range, or an option of
            ``GatherExcite`` is wrong.

    Source:
        Hu et al., "Gather-Excite", NeurIPS 2018, arXiv:1810.12348, as in the port for small images
        github.com/BayesWatch/pytorch-GENet @ 3fbf99f, models/blocks.py, ``GEBlock``.
        Deviations: maps need not be square.
    """

    def __init__(
        self,
        channels: int,
        *,
        out_channels: int | None = None,
        stride: int = 1,
        extent: int = 0,
        gather: Literal["mean", "conv"] = "mean",
        size: list[int] | tuple[int, int] | None = None,
        grid: int | None = None,
        hidden_channels: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_at_least("GEBlock", 1, channels=channels, out_channels=out_channels, stride=stride)
        out = channels if out_channels is None else out_channels
        if out == channels and stride != 1:
            message = f"GEBlock: stride={stride} needs out_channels other than {channels}, the shortcut being the input"
            raise ValueError(message)
        self.norm1 = BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm2 = BatchNorm2d(out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.gather_excite = GatherExcite(
            out,
            extent=extent,
            gather=gather,
            size=size,
            grid=grid,
            gather_activation=False,
            hidden_channels=hidden_channels,
            bias=False,
        )
        self.shortcut = None if out == channels else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the sum of the shortcut and the branch."""
        active_nchw: Tensor = rectify(self.norm1(x_nchw))
        shortcut_nchw: Tensor = x_nchw if self.shortcut is None else convolve(self.shortcut, active_nchw)
        excited_nchw: Tensor = self.gather_excite(self._branch(active_nchw))
        return shortcut_nchw + excited_nchw

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``gate``, what the branch is multiplied with, ``(N, C', H', W')``."""
        return self.gather_excite.attention(self._branch(rectify(self.norm1(x_nchw))))

    def _branch(self, active_nchw: Tensor) -> Tensor:
        hidden_nchw = rectify(conv_and_norm(self.conv1, self.norm2, active_nchw))
        branch_nchw: Tensor = convolve(self.conv2, self.dropout(hidden_nchw))
        return branch_nchw
