"""scSE: a weight for each channel and a weight for each pixel, side by side."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_choice, check_input
from attnzoo_vision.ops.compiling import runs_plainly
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.pooling import global_mean


class SCSE(nn.Module):
    """Scale by channel weights and by pixel weights; take the larger of both scaled maps, or join them in another way.

    ``y = max(x * sigmoid(W2 relu(W1 mean_hw(x) + b1) + b2), x * sigmoid(w . x + b))``

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels`` that gives the number of hidden units, rounded down.
        combine: ``max`` of the two scaled maps, as in the authors' code, their ``sum``, as in the first paper, their
            ``product``, or ``concat``, both one after the other; the second paper is said to compare all four.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``, with ``concat`` to ``(N, 2 C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: No hidden unit is left, or ``combine`` is unknown.

    Source:
        Roy et al., "Concurrent Spatial and Channel Squeeze & Excitation in Fully Convolutional Networks", MICCAI 2018,
        arXiv:1803.02579, eq. 1-3, and IEEE TMI 38(2), 2019, arXiv:1808.08127.
        Authors' code: github.com/ai-med/squeeze_and_excitation @ acdd26e.
        Deviations: none in the numbers; the optional few-shot weights of their spatial part are left out.
    """

    def __init__(
        self, channels: int, *, reduction: int = 2, combine: Literal["max", "sum", "product", "concat"] = "max"
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("SCSE", 1, channels=channels, reduction=reduction)
        check_at_most("SCSE", "reduction", reduction, "channels", channels)
        hidden = channels // reduction
        check_choice("SCSE", "combine", combine, ("max", "sum", "product", "concat"))
        self.combine = combine
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)
        self.spatial = nn.Conv2d(channels, 1, 1)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the weights ``channel``, ``(N, C, 1, 1)``, and ``spatial``, ``(N, 1, H, W)``."""
        check_input("SCSE", x_nchw, self.channels)
        hidden_nr = torch.relu(self.squeeze(global_mean(x_nchw)))
        channel_nc11 = torch.sigmoid(self.excite(hidden_nr))[:, :, None, None]
        return {"channel": channel_nc11, "spatial": torch.sigmoid(convolve(self.spatial, x_nchw))}

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the larger of the two scaled maps, or what ``combine`` says."""
        weights = self.attention(x_nchw)
        if self.combine == "sum":
            return x_nchw * (weights["channel"] + weights["spatial"])
        by_channel_nchw, by_pixel_nchw = x_nchw * weights["channel"], x_nchw * weights["spatial"]
        if self.combine == "product":
            return by_channel_nchw * by_pixel_nchw
        if self.combine == "concat":
            return torch.cat([by_channel_nchw, by_pixel_nchw], dim=1)
        if torch.is_grad_enabled() or not runs_plainly():
            return torch.maximum(by_channel_nchw, by_pixel_nchw)
        return torch.maximum(by_channel_nchw, by_pixel_nchw, out=by_channel_nchw)
