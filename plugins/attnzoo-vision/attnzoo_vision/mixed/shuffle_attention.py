"""Shuffle attention: in each channel group half the channels are weighted as a whole, half pixel by pixel."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.axis_pooling import mean_over
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input
from attnzoo_vision.ops.compiling import may_specialise, runs_plainly
from attnzoo_vision.ops.group_norm import GroupNorm
from attnzoo_vision.ops.joined_norm import is_plain_instance_norm
from attnzoo_vision.ops.layout import is_channels_last, to_channels_last
from attnzoo_vision.ops.shuffled_gates import shuffled_gates


class ShuffleAttention(nn.Module):
    """Weight half of each channel group by its channel means, half by its normalised pixels, then mix the halves.

    For the halves ``u`` and ``v`` of a group: ``u * sigmoid(a mean_hw(u) + b)`` and ``v * sigmoid(c IN(v) + d)``; the
    channels are then dealt out alternately from the first and the second half of all channels.

    Args:
        channels: Channels of the input.
        groups: Number of channel groups, which share all parameters.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``2 * groups`` does not divide ``channels``.

    Source:
        Zhang and Yang, "SA-Net: Shuffle Attention for Deep Convolutional Neural Networks", ICASSP 2021,
        arXiv:2102.00240, eq. 1-6. Authors' code: github.com/wofmanaf/SA-Net @ 00a6760, models/sa_resnet.py.
        Deviations: none in the numbers.
    """

    def __init__(self, channels: int, *, groups: int = 64) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("ShuffleAttention", 1, channels=channels, groups=groups)
        check_divides("ShuffleAttention", "groups", groups, "channels", channels, factor=2)
        half = channels // (2 * groups)
        self.groups = groups
        self.channel_weight = nn.Parameter(torch.empty(half))
        self.channel_bias = nn.Parameter(torch.empty(half))
        self.pixel_weight = nn.Parameter(torch.empty(half))
        self.pixel_bias = nn.Parameter(torch.empty(half))
        self.norm = GroupNorm(half, half)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with every weight at sigmoid(1), whatever the input."""
        nn.init.zeros_(self.channel_weight)
        nn.init.ones_(self.channel_bias)
        nn.init.zeros_(self.pixel_weight)
        nn.init.ones_(self.pixel_bias)
        self.norm.reset_parameters()

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel`` (N, G, K, 1, 1) and ``pixel`` (N, G, K, H, W) for the K channels of each half group."""
        check_input("ShuffleAttention", x_nchw, self.channels)
        first, second = self._halves(x_nchw)
        return {"channel": self._channel_gate(first), "pixel": self._pixel_gate(second)}

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the weighted channels of ``x_nchw``, shuffled."""
        check_input("ShuffleAttention", x_nchw, self.channels)
        if not is_channels_last(x_nchw):
            return self._shuffled(x_nchw)
        own = may_specialise(x_nchw) and not torch.is_autocast_enabled("cpu") and is_plain_instance_norm(self.norm)
        if own and x_nchw.device.type == "cpu" and x_nchw.dtype in (torch.float32, torch.float64):
            affine = (self.channel_weight, self.channel_bias, *self._pixel_affine())
            return shuffled_gates(x_nchw, affine, self.groups, self.norm.eps)
        return to_channels_last(self._shuffled(x_nchw.contiguous()))

    def _shuffled(self, x_nchw: Tensor) -> Tensor:
        first, second = self._halves(x_nchw)
        channel, pixel = self._channel_gate(first), self._pixel_gate(second)
        if torch.is_grad_enabled() or not runs_plainly() or self.groups % 2 or pixel.dtype != x_nchw.dtype:
            joined_nchw = torch.stack([first * channel, second * pixel], dim=2).flatten(1, 3)
            return torch.unflatten(joined_nchw, 1, (2, -1)).transpose(1, 2).flatten(1, 2)
        y_nchw = torch.empty_like(x_nchw)
        # place of channel k of a half of group (j, g): ((g * 2 + half) * K + k) * 2 + j
        places = torch.unflatten(y_nchw, 1, (self.groups // 2, 2, -1, 2)).permute(0, 4, 1, 2, 3, 5, 6)
        for half, (part, gate) in enumerate(((first, channel), (second, pixel))):
            split_part, split_gate = (torch.unflatten(t, 1, (2, -1)) for t in (part, gate))
            torch.mul(split_part, split_gate, out=places[:, :, :, half])
        return y_nchw

    def _halves(self, x_nchw: Tensor) -> tuple[Tensor, Tensor]:
        x_ng2khw = torch.unflatten(x_nchw, 1, (self.groups, 2, -1))
        return x_ng2khw[:, :, 0], x_ng2khw[:, :, 1]

    def _channel_gate(self, x_ngkhw: Tensor) -> Tensor:
        logits_ngk = mean_over(x_ngkhw, (3, 4)) * self.channel_weight + self.channel_bias
        return torch.sigmoid(logits_ngk)[..., None, None]

    def _pixel_gate(self, x_ngkhw: Tensor) -> Tensor:
        """Return the weights of the pixels; the affine part of the norm, unless it is called, and the next are one."""
        n, g, k, h, w = x_ngkhw.shape
        x_mkhw = x_ngkhw.reshape(n * g, k, h, w)
        if is_plain_instance_norm(self.norm):
            logits_mkhw = torch.group_norm(x_mkhw, k, *self._pixel_affine(), self.norm.eps)
        else:
            slope_k11, offset_k11 = self.pixel_weight[:, None, None], self.pixel_bias[:, None, None]
            logits_mkhw = self.norm(x_mkhw) * slope_k11 + offset_k11
        return torch.sigmoid(logits_mkhw).view(n, g, k, h, w)

    def _pixel_affine(self) -> tuple[Tensor, Tensor]:
        return self.norm.weight * self.pixel_weight, self.norm.bias * self.pixel_weight + self.pixel_bias
