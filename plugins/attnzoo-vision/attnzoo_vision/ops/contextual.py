"""Parts of the contextual transformer layers: the local sum with weights per pixel, and the fusion of two maps."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.compiling import runs_plainly
from attnzoo_vision.ops.differentiate import differentiate, is_last_gradient
from attnzoo_vision.ops.pooling import global_mean


def aggregate_locally(value_nchw: Tensor, weight_nkhw: Tensor, kernel_size: int, groups: int) -> Tensor:
    """Return the weighted sum over each pixel's neighbourhood, zero padded; the map is never unfolded.

    ``weight_nkhw`` holds ``kernel_size ** 2`` weights for each of a group's weight channels, taps fastest; within a
    group, value channel c uses weight channel c modulo their number.
    """
    weight_tngkhw = _taps_first(weight_nkhw.unflatten(1, (groups, -1, kernel_size**2)))
    value_ngrkhw = F.pad(value_nchw, [kernel_size // 2] * 4).unflatten(1, (groups, -1, weight_tngkhw.shape[3]))
    if torch.is_grad_enabled() and runs_plainly():
        y_ngrkhw: Tensor = _Aggregate.apply(value_ngrkhw, weight_tngkhw)  # type: ignore[no-untyped-call]
    else:
        y_ngrkhw = _aggregate(value_ngrkhw, weight_tngkhw)
    return y_ngrkhw.flatten(1, 3)


def _taps_first(weight_ngkthw: Tensor) -> Tensor:
    """Return ``(T, N, G, K, H, W)``; of channels-last maps a copy, in which a tap's weights lie side by side."""
    weight_tnhwgk = weight_ngkthw.permute(3, 0, 4, 5, 1, 2)
    if weight_ngkthw.stride(3) == 1 and not torch.compiler.is_compiling():
        weight_tnhwgk = weight_tnhwgk.contiguous()
    return weight_tnhwgk.permute(0, 1, 4, 5, 2, 3)


def _aggregate(value_ngrkhw: Tensor, weight_tngkhw: Tensor) -> Tensor:
    y_ngrkhw: Tensor | None = None
    for weight_ngkhw, shifted_ngrkhw in zip(weight_tngkhw, _shifted(value_ngrkhw, weight_tngkhw), strict=True):
        factor = weight_ngkhw.unsqueeze(2)
        y_ngrkhw = shifted_ngrkhw * factor if y_ngrkhw is None else torch.addcmul(y_ngrkhw, shifted_ngrkhw, factor)
    assert y_ngrkhw is not None
    return y_ngrkhw


def _shifted(value_ngrkhw: Tensor, weight_tngkhw: Tensor) -> Iterator[Tensor]:
    """Yield for each tap the part of the padded values that its weights are laid on, a view."""
    taps, height, width = weight_tngkhw.shape[0], *weight_tngkhw.shape[-2:]
    size = math.isqrt(taps)
    for tap in range(taps):
        row, column = divmod(tap, size)
        yield value_ngrkhw[..., row : row + height, column : column + width]


class _Aggregate(torch.autograd.Function):
    """`_aggregate` with a gradient of its own: autograd would write a whole map of zeros for each tap."""

    @staticmethod
    def forward(ctx: Any, value_ngrkhw: Tensor, weight_tngkhw: Tensor) -> Tensor:
        ctx.save_for_backward(value_ngrkhw, weight_tngkhw)
        return _aggregate(value_ngrkhw, weight_tngkhw)

    @staticmethod
    def backward(ctx: Any, grad_ngrkhw: Tensor) -> tuple[Tensor | None, ...]:
        value_ngrkhw, weight_tngkhw = ctx.saved_tensors
        if not is_last_gradient(grad_ngrkhw):
            return differentiate(_aggregate, (value_ngrkhw, weight_tngkhw), grad_ngrkhw)
        value_grad, weight_grad = torch.zeros_like(value_ngrkhw), torch.empty_like(weight_tngkhw)
        parts = (_shifted(value_ngrkhw, weight_tngkhw), _shifted(value_grad, weight_tngkhw))
        for weight_ngkhw, weight_grad_ngkhw, shifted, shifted_grad in zip(
            weight_tngkhw, weight_grad, *parts, strict=True
        ):
            shifted_grad.addcmul_(grad_ngrkhw, weight_ngkhw.unsqueeze(2))
            torch.sum(grad_ngrkhw * shifted, dim=2, out=weight_grad_ngkhw)
        return value_grad, weight_grad


class Fusion(nn.Module):
    """Mix two maps with weights per channel that sum to 1, computed from the means of their sum."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, hidden_channels)
        self.norm = BatchNorm1d(hidden_channels)
        self.excite = nn.Linear(hidden_channels, 2 * channels)

    def weights(self, first_nchw: Tensor, second_nchw: Tensor) -> Tensor:
        """Return the two weights of each channel, ``(N, C, 2)``."""
        mean_nc = global_mean(first_nchw) + global_mean(second_nchw)
        hidden_nr = torch.relu(self.norm(self.squeeze(mean_nc)))
        return torch.softmax(self.excite(hidden_nr).unflatten(1, (-1, 2)), dim=2)

    def forward(self, first_nchw: Tensor, second_nchw: Tensor) -> Tensor:
        """Return the mixed map."""
        weight_nc112 = self.weights(first_nchw, second_nchw)[:, :, None, None]
        return torch.addcmul(first_nchw * weight_nc112[..., 0], second_nchw, weight_nc112[..., 1])
