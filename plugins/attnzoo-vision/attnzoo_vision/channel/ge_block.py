"""Pre-activation residual block with Gather-Excite."""

from typing import Literal

from torch import Tensor, nn

from attnzoo_vision.channel.gather_excite import GatherExcite, check_gathering
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_input, check_probability
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.draw import draw_as_caffe
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
        grid: Take the ``mean`` over a grid of so many squares a side, in place of the whole map.
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
        Deviations: maps need not be square, and linear layers take the place of 1x1 convolutions. The weights start
        as in the Caffe models of the paper's authors; the port's network draws every convolution normally by its
        outputs, with variance ``2 / (k k out_channels)``. A training batch of one value a channel is normalised with
        the running statistics.
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
        check_at_least("GEBlock", 1, hidden_channels=hidden_channels, grid=grid)
        check_probability("GEBlock", dropout=dropout)
        check_gathering("GEBlock", extent, gather, size, grid)
        out = channels if out_channels is None else out_channels
        if out == channels and stride != 1:
            message = f"GEBlock: stride={stride} does not fit the shortcut, which is the input if out_channels={out} is"
            message += f" channels={channels}; use stride=1 or other out_channels"
            raise ValueError(message)
        self.norm1 = BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm2 = BatchNorm2d(out)
        self.channels, self.dropout = channels, nn.Dropout(dropout)
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
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as the paper's authors do: convolutions normal by fan-in, the excitation with std 0.01."""
        draw_as_caffe(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the sum of the shortcut and the branch."""
        check_input("GEBlock", x_nchw, self.channels)
        active_nchw: Tensor = rectify(self.norm1(x_nchw))
        shortcut_nchw: Tensor = x_nchw if self.shortcut is None else convolve(self.shortcut, active_nchw)
        excited_nchw: Tensor = self.gather_excite(self._branch(active_nchw))
        return shortcut_nchw + excited_nchw

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``gate``, what the branch is multiplied with, ``(N, C', H', W')``."""
        check_input("GEBlock", x_nchw, self.channels)
        return self.gather_excite.attention(self._branch(rectify(self.norm1(x_nchw))))

    def _branch(self, active_nchw: Tensor) -> Tensor:
        hidden_nchw = rectify(conv_and_norm(self.conv1, self.norm2, active_nchw))
        branch_nchw: Tensor = convolve(self.conv2, self.dropout(hidden_nchw))
        return branch_nchw
