"""Gather-Excite."""

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from attnzoo_vision.ops.activation import Activation, Gate, get_activation, get_gate
from attnzoo_vision.ops.adaptive_pooling import adaptive_mean
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input
from attnzoo_vision.ops.compiling import may_specialise
from attnzoo_vision.ops.convolution import convolve, is_untouched
from attnzoo_vision.ops.draw import draw_as_caffe
from attnzoo_vision.ops.pooling import global_mean, mean_max
from attnzoo_vision.ops.resize import resize
from attnzoo_vision.ops.window_pooling import avg_pool2d, max_pool2d


class GatherExcite(nn.Module):
    """Scale each channel by a gate that is gathered from the channel's surroundings or its whole map.

    ``y = x * gate(nearest(excite(gather(x))))``

    The paper's theta-minus is the default; theta is ``gather="conv"``, theta-plus also has ``hidden_channels``.

    Args:
        channels: Channels of the input.
        extent: Step between the places that are gathered at, pixels, even; 0 gathers the whole map into one.
        gather: ``mean`` of a window of ``2 extent - 1`` pixels; ``mean_max``, the mean of its mean and maximum; or
            ``conv``: one depthwise convolution of the whole map, or log2(extent), a whole number, of 3 x 3 and
            stride 2.
        size: Height and width of the kernel of a ``conv`` of the whole map, pixels; without such there is none.
        padded: Pad that convolution with zeros to keep the size.
        grid: Take the ``mean`` over a grid of so many squares a side, in place of the whole map.
        gather_bias: Give the convolutions a bias.
        gather_norm: Follow each convolution by a batch norm.
        gather_activation: Follow also the last convolution by ``activation``, if hidden units come next.
        hidden_channels: Hidden units of the excitation, two 1 x 1 convolutions; none by default.
        bias: Give these two a bias.
        activation: What follows the hidden units, and the convolutions but the last.
        gate: What the gates come from.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on, or from ``size`` on if a convolution of
        the whole map is not padded.

    Raises:
        ValueError: ``extent`` is odd, or no power of two for ``conv``; ``size`` is missing; ``size`` or ``grid`` has no
            effect; a number is less than 1, or an option is not known.

    Source:
        Hu et al., "Gather-Excite: Exploiting Feature Context in Convolutional Neural Networks", NeurIPS 2018,
        arXiv:1810.12348, sections 3-4. Authors' code: github.com/hujie-frank/GENet @ ae791f8, models/RN50-GE*.prototxt.
        Deviations: linear layers for their 1x1 convolutions; the batch norms keep PyTorch's momentum of 0.1, where
        their Caffe layers have 0.95, which is 0.05 here. Their files gather the whole map alone; another ``extent``
        is as timm has it, and ``mean_max``, ``padded``, ``grid`` and the options ``gather_*`` are of ports. A training
        batch of one value a channel is normalised with the running statistics.
    """

    def __init__(
        self,
        channels: int,
        *,
        extent: int = 0,
        gather: Literal["mean", "mean_max", "conv"] = "mean",
        size: list[int] | tuple[int, int] | None = None,
        padded: bool = False,
        grid: int | None = None,
        gather_bias: bool = False,
        gather_norm: bool = True,
        gather_activation: bool = True,
        hidden_channels: int | None = None,
        bias: bool = True,
        activation: Activation = "relu",
        gate: Gate = "sigmoid",
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("GatherExcite", 1, channels=channels, hidden_channels=hidden_channels, grid=grid)
        check_gathering("GatherExcite", extent, gather, size, grid)
        self.extent, self.gather, self.grid = extent, gather, grid
        self.gather_activation = gather_activation
        self.activation = get_activation("GatherExcite", activation)
        self.gate = get_gate("GatherExcite", gate)
        convs = _gather_convs(channels, extent, size, padded, gather_bias) if gather == "conv" else []
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(BatchNorm2d(channels) for _ in self.convs if gather_norm)
        self.squeeze = nn.Linear(channels, hidden_channels, bias=bias) if hidden_channels else None
        self.excite = nn.Linear(hidden_channels, channels, bias=bias) if hidden_channels else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as the authors do: convolutions normal by fan-in, the excitation with std 0.01, biases 0."""
        draw_as_caffe(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, scaled by its gates."""
        return x_nchw * self._weight(x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``gate``, what :meth:`forward` multiplies with, ``(N, C, H, W)``."""
        return {"gate": self._weight(x_nchw).expand_as(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        check_input("GatherExcite", x_nchw, self.channels)
        gathered_nchw = self._convolve(x_nchw) if self.gather == "conv" else self._pool(x_nchw)
        if self.squeeze is not None and self.excite is not None:
            hidden_nhwr = self.activation(self.squeeze(gathered_nchw.movedim(1, -1)))
            gathered_nchw = self.excite(hidden_nhwr).movedim(-1, 1)
        weight_nchw = self.gate(gathered_nchw)
        if weight_nchw.shape[2:] in ((1, 1), x_nchw.shape[2:]):
            return weight_nchw
        return resize(weight_nchw, x_nchw.shape[2:], "nearest")

    def _pool(self, x_nchw: Tensor) -> Tensor:
        if self.grid is not None:
            return adaptive_mean(x_nchw, self.grid, self.grid)
        if self.extent == 0:
            pooled_nc = global_mean(x_nchw) if self.gather == "mean" else mean_max(x_nchw)
            return pooled_nc[:, :, None, None]
        window, pad = 2 * self.extent - 1, self.extent - 1
        mean_nchw = avg_pool2d(x_nchw, window, self.extent, pad, count_include_pad=False)
        if self.gather == "mean":
            return mean_nchw
        return 0.5 * (mean_nchw + max_pool2d(x_nchw, window, self.extent, pad))

    def _convolve(self, x_nchw: Tensor) -> Tensor:
        for index, conv in enumerate(self.convs):
            x_nchw = _depthwise(conv, x_nchw)
            if len(self.norms):
                x_nchw = self.norms[index](x_nchw)
            last = index == len(self.convs) - 1
            if not last or (self.gather_activation and self.squeeze is not None):
                x_nchw = self.activation(x_nchw)
        return x_nchw


def check_gathering(block: str, extent: int, gather: str, size: Sequence[int] | None, grid: int | None) -> None:
    """Raise ValueError if the options of ``block`` for what is gathered are wrong, or do not fit each other."""
    check_choice(block, "gather", gather, ("mean", "mean_max", "conv"))
    message = ""
    if extent < 0 or extent % 2:
        message = f"extent={extent} is not 0 or an even number; use 0 for the whole map"
    elif gather == "conv" and extent & (extent - 1):
        lower = 2 ** int(math.log2(extent))
        message = f"extent={extent} with gather='conv' is not a power of two; use {lower} or {2 * lower}"
    elif gather == "conv" and extent == 0 and size is None:
        message = "extent=0 with gather='conv' needs size; give height and width of the map"
    elif size is not None and (len(size) != 2 or min(size) < 1):
        message = f"size={list(size)} is not a height and a width; give two positive numbers"
    elif size is not None and (gather != "conv" or extent):
        message = f"size={list(size)} needs gather='conv' and extent=0, found {gather!r} and {extent}; leave it out"
    elif grid is not None and (gather != "mean" or extent):
        message = f"grid={grid} needs gather='mean' and extent=0, found {gather!r} and {extent}; leave it out"
    if message:
        raise ValueError(f"{block}: {message}")


def _gather_convs(channels: int, extent: int, size: Sequence[int] | None, padded: bool, bias: bool) -> list[nn.Conv2d]:
    if extent == 0 and size is not None:
        padding = ((size[0] - 1) // 2, (size[1] - 1) // 2) if padded else (0, 0)
        return [nn.Conv2d(channels, channels, (size[0], size[1]), padding=padding, groups=channels, bias=bias)]
    count = int(math.log2(extent))
    return [nn.Conv2d(channels, channels, 3, 2, 1, groups=channels, bias=bias) for _ in range(count)]


def _depthwise(conv: nn.Module, x_nchw: Tensor) -> Tensor:
    """Convolve; a kernel that covers the map is a plain sum, which is far quicker and keeps the layout."""
    size = x_nchw.shape[2:]
    if not (may_specialise(x_nchw) and is_untouched(conv) and size == conv.kernel_size) or any(conv.padding):
        return convolve(conv, x_nchw)
    sum_nc11 = (x_nchw * conv.weight.squeeze(1)).sum(dim=(2, 3), keepdim=True)
    return sum_nc11 if conv.bias is None else sum_nc11 + conv.bias[:, None, None]
