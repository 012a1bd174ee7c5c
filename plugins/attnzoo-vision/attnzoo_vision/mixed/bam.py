"""BAM: a weight for each element, from one number for each channel and one for each pixel."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm1d, BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_choice, check_input
from attnzoo_vision.ops.compiling import kept_sigmoid, runs_plainly
from attnzoo_vision.ops.convolution import convolve_through
from attnzoo_vision.ops.draw import by_outputs, draw_anew
from attnzoo_vision.ops.layout import channels_last_view
from attnzoo_vision.ops.pooling import global_mean


class BAM(nn.Module):
    """Add to the input its product with a weight made of a channel answer and a pixel answer.

    ``y = x * (1 + sigmoid(channel(mean_hw(x)) * spatial(x)))``; ``channel`` is linear, BN, ReLU, linear; ``spatial``
    is a 1x1 convolution and two dilated 3x3 convolutions, each with BN and ReLU, then a 1x1 convolution to one plane.
    Weights start as in the authors' network: convolutions normal, biases 0.

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels`` that gives the channels inside both branches, rounded down.
        dilation: Distance of the taps of the 3x3 convolutions in pixels.
        combine: ``product`` of the two answers, as in the authors' code and weights, or their ``sum``, as in the paper.
        num_layers: Hidden layers of the channel branch, each linear, BN and ReLU.
        num_dilated: Dilated convolutions of the spatial branch, each with BN and ReLU.
        final_norm: Whether both branches end in a BN, as in the paper; the authors' code has none there.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: No channel is left inside, ``num_layers`` or ``num_dilated`` is negative, or ``combine`` is unknown.

    Source:
        Park et al., "BAM: Bottleneck Attention Module", BMVC 2018, arXiv:1807.06514, eq. 1-5.
        Authors' code: github.com/Jongchan/attention-module @ 459efad, MODELS/bam.py.
        Deviations: the mean is taken over the whole map; their window is a square with the side H. Training on one
        sample takes the running statistics in the channel branch, where torch raises.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        dilation: int = 4,
        combine: Literal["product", "sum"] = "product",
        num_layers: int = 1,
        num_dilated: int = 2,
        final_norm: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("BAM", 1, channels=channels, reduction=reduction, dilation=dilation)
        check_at_least("BAM", 0, num_layers=num_layers, num_dilated=num_dilated)
        check_at_most("BAM", "reduction", reduction, "channels", channels)
        check_choice("BAM", "combine", combine, ("product", "sum"))
        hidden = channels // reduction
        self.combine = combine
        self.channel = nn.Sequential(*_channel_layers(channels, hidden, num_layers))
        self.spatial = nn.Sequential(*_spatial_layers(channels, hidden, num_dilated, dilation))
        if final_norm:
            self.channel.append(BatchNorm1d(channels))
            self.spatial.append(BatchNorm2d(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as the authors' network does: convolutions by the number of outputs, biases zero."""
        draw_anew(self, conv=by_outputs, linear=None, zero_biases=True)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the answers to be combined: ``channel``, ``(N, C, 1, 1)``, and ``spatial``, ``(N, 1, H, W)``."""
        check_input("BAM", x_nchw, self.channels)
        return {
            "channel": self.channel(global_mean(x_nchw))[:, :, None, None],
            "spatial": convolve_through(self.spatial, x_nchw),
        }

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` plus its product with the weights."""
        check_input("BAM", x_nchw, self.channels)
        channel_nc, spatial_n1hw = self.channel(global_mean(x_nchw)), convolve_through(self.spatial, x_nchw)
        x_nhwc = channels_last_view(x_nchw)
        if x_nhwc is None:
            return self._weighted(x_nchw, channel_nc[:, :, None, None], spatial_n1hw)
        y_nhwc = self._weighted(x_nhwc, channel_nc[:, None, None, :], spatial_n1hw.permute(0, 2, 3, 1))
        return y_nhwc.permute(0, 3, 1, 2)

    def _weighted(self, x: Tensor, channel: Tensor, spatial: Tensor) -> Tensor:
        answer = channel * spatial if self.combine == "product" else channel + spatial
        if torch.is_grad_enabled() or answer.dtype != x.dtype:
            return torch.addcmul(x, x, kept_sigmoid(answer).to(x.dtype))
        weight = answer.sigmoid_()
        return torch.addcmul(x, x, weight, out=weight) if runs_plainly() else x + x * weight


def _channel_layers(channels: int, hidden: int, num_layers: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    widths = [channels, *[hidden] * num_layers]
    for width in widths[:-1]:
        layers += [nn.Linear(width, hidden), BatchNorm1d(hidden), nn.ReLU()]
    return [*layers, nn.Linear(widths[-1], channels)]


def _spatial_layers(channels: int, hidden: int, num_dilated: int, dilation: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(channels, hidden, 1), BatchNorm2d(hidden), nn.ReLU()]
    for _ in range(num_dilated):
        dilated = nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation)
        layers += [dilated, BatchNorm2d(hidden), nn.ReLU()]
    return [*layers, nn.Conv2d(hidden, 1, 1)]
