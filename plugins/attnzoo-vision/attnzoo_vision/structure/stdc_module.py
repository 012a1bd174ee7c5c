"""Short-term dense concatenate module."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.window_pooling import avg_pool2d


class STDCModule(nn.Module):
    """Concatenate the results of a chain of convolutions, each with half the channels of the one before.

    ``y = cat(x1, ..., xd)``, ``x1 = cbr1x1(x)``, ``xi = cbr3x3(x(i-1))``, ``cbr(x) = relu(BN(conv(x)))``

    Args:
        channels: Channels of the input.
        out_channels: The chain has 1/2, 1/4, ... of them, rounded down, the last width twice: together as many, if
            they can be halved so often, or a few less.
        depth: Number of convolutions.
        stride: 2 halves the size: a depthwise convolution stands behind the first, and its result (``add``) or the
            averaged ``x1`` (``cat``) is concatenated.
        form: ``cat`` is the published network's. ``add`` adds the input, with stride 2 through a depthwise and a 1x1
            convolution.

    Shape:
        ``(N, C, H, W)`` to ``(N, O, ceil(H / stride), ceil(W / stride))``, O the widths together; any H and W from
        1 on.

    Raises:
        ValueError: ``stride`` is not 1 or 2, ``depth`` is below 2, ``out_channels`` leaves the last convolution
            no channel, or the widths of form ``add`` do not fit: with stride 1 they are together other than
            ``channels``, with stride 2 other than ``out_channels``.

    Source:
        Fan et al., "Rethinking BiSeNet For Real-time Semantic Segmentation", CVPR 2021, arXiv:2104.13188, fig. 3.
        Authors' code: github.com/MichaelFan01/STDC-Seg @ 59ff37f, nets/stdcnet.py, CatBottleneck and AddBottleneck.
        Deviations: none. The average of ``cat`` counts the padding, as there.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        depth: int = 4,
        stride: Literal[1, 2] = 1,
        form: Literal["cat", "add"] = "cat",
    ) -> None:
        super().__init__()
        self.channels = channels
        _check(channels, out_channels, depth, stride, form)
        widths = _widths(out_channels, depth)
        half = widths[0]
        self.stride = stride
        self.form = form
        layers = [ConvNorm(channels, half, relu=True)]
        layers += [ConvNorm(widths[i - 1], widths[i], kernel_size=3, relu=True) for i in range(1, depth)]
        self.convs = nn.ModuleList(layers)
        if stride == 2:
            self.down = ConvNorm(half, half, kernel_size=3, stride=2, groups=half)
        if stride == 2 and form == "add":
            depthwise = ConvNorm(channels, channels, kernel_size=3, stride=2, groups=channels)
            self.shortcut = nn.ModuleList([depthwise, ConvNorm(channels, out_channels)])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: Kaiming normal by fan-out, as the authors do."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                nn.init.kaiming_normal_(module.conv.weight, mode="fan_out")
                module.norm.reset_parameters()

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the concatenated results."""
        check_input("STDCModule", x_nchw, self.channels)
        first_nrhw = self.convs[0](x_nchw)
        last = self.down(first_nrhw) if self.stride == 2 else first_nrhw
        if self.stride == 2 and self.form == "cat":
            results = [avg_pool2d(first_nrhw, 3, stride=2, padding=1)]
        else:
            results = [last]
        for conv in list(self.convs)[1:]:
            last = conv(last)
            results.append(last)
        y_nohw = torch.cat(results, dim=1)
        return y_nohw if self.form == "cat" else y_nohw.add_(self._shortcut(x_nchw))

    def _shortcut(self, x_nchw: Tensor) -> Tensor:
        if self.stride == 2:
            for layer in self.shortcut:
                x_nchw = layer(x_nchw)
        return x_nchw


def _check(channels: int, out_channels: int, depth: int, stride: int, form: str) -> None:
    check_at_least("STDCModule", 1, channels=channels, out_channels=out_channels)
    check_at_least("STDCModule", 2, depth=depth)
    check_choice("STDCModule", "stride", stride, (1, 2))
    check_choice("STDCModule", "form", form, ("cat", "add"))
    message = ""
    joined, wanted = sum(_widths(out_channels, depth)), channels if stride == 1 else out_channels
    if out_channels < 2 ** (depth - 1):
        message = (
            f"STDCModule: out_channels={out_channels} is below {2 ** (depth - 1)} (depth={depth}); use that or more"
        )
    elif form == "add" and joined != wanted:
        message = f"STDCModule: form='add' with stride={stride} joins {joined} channels (out_channels={out_channels}),"
        advice = f"channels={joined}" if stride == 1 else f"out_channels of a multiple of {2 ** (depth - 1)}"
        message += f" expected {wanted}, to which they are added; use {advice}"
    if message:
        raise ValueError(message)


def _widths(out_channels: int, depth: int) -> list[int]:
    """Return the channels of every convolution of the chain."""
    return [out_channels >> min(i, depth - 1) for i in range(1, depth + 1)]
