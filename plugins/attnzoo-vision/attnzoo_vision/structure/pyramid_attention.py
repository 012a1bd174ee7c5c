"""Pyramid attention for image restoration."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_input
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.pairwise import attend
from attnzoo_vision.ops.patches import fold, unfold

_PATCH = 3
_OVERLAP = 4.0
_NORM_FLOOR = 1e-4


class PyramidAttention(nn.Module):
    """Rebuild each 3x3 patch from the patches of the map and of smaller copies of it that look alike.

    ``y = r * x + fold(softmax(s * Q K^T) V) / 4``, ``Q``, ``K``, ``V`` the patches of ``prelu(W x)``, ``K`` of length 1

    Args:
        channels: Channels of the input.
        levels: Number of sizes that are searched: 1, 0.9, 0.8, ... of the input's.
        reduction: Divisor of ``channels`` that gives the channels of queries and keys, rounded down.
        softmax_scale: Factor ``s`` of the logits.
        residual_scale: Factor ``r`` of the input.
        hard: Take the best patch alone instead of the weighted mean; it trains the values only.
        exact_scale: Sample the smaller copies at steps of exactly 1/0.9, ..., as current torch does, instead of steps
            that fit their rounded size, as torch did for the authors.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on, with ``exact_scale`` such that no copy is empty.

    Raises:
        ValueError: ``levels`` is not in 1 to 10, or ``reduction`` leaves no channel.

    Source:
        Mei et al., "Pyramid Attention Networks for Image Restoration", arXiv:2004.13824, eq. 4-6.
        Authors' code: github.com/SHI-Labs/Pyramid-Attention-Networks @ a267cf8, SR/code/model/attention.py.
        Deviations: none. Overlaps are divided by 4 in place of 9, as there. The default resizing is their torch's.
    """

    norm_floor: Tensor

    def __init__(
        self,
        channels: int,
        *,
        levels: int = 5,
        reduction: int = 2,
        softmax_scale: float = 10.0,
        residual_scale: float = 1.0,
        hard: bool = False,
        exact_scale: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("PyramidAttention", 1, channels=channels, levels=levels, reduction=reduction)
        if levels > 10:
            message = f"PyramidAttention: levels={levels} is above 10, where a level has no size; use 10 or less"
            raise ValueError(message)
        check_at_most("PyramidAttention", "reduction", reduction, "channels", channels)
        self.scales = tuple(1 - i / 10 for i in range(levels))
        self.softmax_scale = softmax_scale
        self.residual_scale = residual_scale
        self.hard = hard
        self.exact_scale = exact_scale
        hidden = channels // reduction
        self.query = nn.Conv2d(channels, hidden, 1)
        self.query_activation = nn.PReLU()
        self.key = nn.Conv2d(channels, hidden, 1)
        self.key_activation = nn.PReLU()
        self.value = nn.Conv2d(channels, channels, 1)
        self.value_activation = nn.PReLU()
        self.register_buffer("norm_floor", torch.full((1,), _NORM_FLOOR))

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)
        nn.init.constant_(self.norm_floor, _NORM_FLOOR)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the rebuilt map plus the input."""
        query_nld, key_nmd, value_nme = self._patches(x_nchw)
        if self.hard:
            rebuilt_nle = self._weights(query_nld, key_nmd) @ value_nme
        else:
            rebuilt_nle = attend(query_nld, key_nmd, value_nme, self.softmax_scale)
        y_nchw = fold(rebuilt_nle, list(x_nchw.shape[2:]), _PATCH) / _OVERLAP
        return self.residual_scale * x_nchw + y_nchw

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``patch``, the weights of all patches of all sizes at each pixel, ``(N, M, H, W)``."""
        query_nld, key_nmd, _ = self._patches(x_nchw)
        weight_nml = self._weights(query_nld, key_nmd).transpose(1, 2)
        return {"patch": weight_nml.reshape(*weight_nml.shape[:2], *x_nchw.shape[2:])}

    def _weights(self, query_nld: Tensor, key_nmd: Tensor) -> Tensor:
        weight_nlm = (self.softmax_scale * (query_nld @ key_nmd.transpose(1, 2))).softmax(-1)
        if self.hard:
            weight_nlm = (weight_nlm == weight_nlm.amax(-1, keepdim=True)).to(weight_nlm.dtype)
        return weight_nlm

    def _patches(self, x_nchw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        check_input("PyramidAttention", x_nchw, self.channels)
        query_nld = unfold(self.query_activation(convolve(self.query, x_nchw)), _PATCH)
        keys, values = [], []
        for scale in self.scales:
            copy_nchw = self._resize(x_nchw, scale)
            keys.append(unfold(self.key_activation(convolve(self.key, copy_nchw)), _PATCH))
            values.append(unfold(self.value_activation(convolve(self.value, copy_nchw)), _PATCH))
        key_nmd = torch.cat(keys, dim=1)
        length_nm1 = torch.linalg.vector_norm(key_nmd, dim=-1, keepdim=True)
        key_nmd = key_nmd / torch.maximum(length_nm1, self.norm_floor.to(length_nm1.dtype))
        return query_nld, key_nmd, torch.cat(values, dim=1)

    def _resize(self, x_nchw: Tensor, scale: float) -> Tensor:
        if scale == 1:
            return x_nchw
        if self.exact_scale:
            return F.interpolate(x_nchw, scale_factor=scale, mode="bicubic")
        size = [max(1, math.floor(length * scale)) for length in x_nchw.shape[2:]]
        return F.interpolate(x_nchw, size, mode="bicubic")
