"""Parts of the contextual transformer layers: the local sum with weights per pixel, and the fusion of two maps."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.compiling import compiled_for_cpu, runs_plainly, settled
from attnzoo_vision.ops.differentiate import differentiate, is_last_gradient
from attnzoo_vision.ops.layout import is_channels_last
from attnzoo_vision.ops.pooling import global_mean


def aggregate_locally(value_nchw: Tensor, weight_nkhw: Tensor, kernel_size: int, groups: int) -> Tensor:
    """Return the weighted sum over each pixel's neighbourhood, zero padded; the map is never unfolded.

    ``weight_nkhw`` holds ``kernel_size ** 2`` weights for each of a group's weight channels, taps fastest; within a
    group, value channel c uses weight channel c modulo their number.
    """
    if groups == 1 and is_channels_last(value_nchw) and compiled_for_cpu(value_nchw):
        whole_nchw: Tensor = _aggregate_operator(value_nchw, weight_nkhw, kernel_size, groups)
        return whole_nchw
    value_ngrkhw, weight_tngkhw = _grouped(value_nchw, weight_nkhw, kernel_size, groups)
    if torch.is_grad_enabled() and runs_plainly():
        y_ngrkhw: Tensor = _Aggregate.apply(value_ngrkhw, weight_tngkhw)  # type: ignore[no-untyped-call]
    else:
        y_ngrkhw = _aggregate(value_ngrkhw, weight_tngkhw)
    return y_ngrkhw.flatten(1, 3)


def _grouped(value_nchw: Tensor, weight_nkhw: Tensor, kernel_size: int, groups: int) -> tuple[Tensor, Tensor]:
    """Return the padded values, ``(N, G, R, K, H, W)``, and the weights, ``(T, N, G, K, H, W)``."""
    weight_tngkhw = _taps_first(weight_nkhw.unflatten(1, (groups, -1, kernel_size**2)))
    padded_nchw = F.pad(value_nchw, [kernel_size // 2] * 4)
    return padded_nchw.unflatten(1, (groups, -1, weight_tngkhw.shape[3])), weight_tngkhw


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
        return _aggregate_backward(value_ngrkhw, weight_tngkhw, grad_ngrkhw)


def _aggregate_backward(value_ngrkhw: Tensor, weight_tngkhw: Tensor, grad_ngrkhw: Tensor) -> tuple[Tensor, Tensor]:
    value_grad, weight_grad = torch.zeros_like(value_ngrkhw), torch.empty_like(weight_tngkhw)
    parts = (_shifted(value_ngrkhw, weight_tngkhw), _shifted(value_grad, weight_tngkhw))
    for weight_ngkhw, weight_grad_ngkhw, shifted, shifted_grad in zip(weight_tngkhw, weight_grad, *parts, strict=True):
        shifted_grad.addcmul_(grad_ngrkhw, weight_ngkhw.unsqueeze(2))
        torch.sum(grad_ngrkhw * shifted, dim=2, out=weight_grad_ngkhw)
    return value_grad, weight_grad


# of one group, a compiler reads and writes channels-last maps once more for every tap
@torch.library.custom_op("attnzoo_vision::aggregate_locally", mutates_args=())
def _aggregate_operator(value_nchw: Tensor, weight_nkhw: Tensor, kernel_size: int, groups: int) -> Tensor:
    y_ngrkhw = _aggregate(*_grouped(value_nchw, weight_nkhw, kernel_size, groups))
    return y_ngrkhw.flatten(1, 3).contiguous(memory_format=torch.channels_last)


@torch.library.custom_op("attnzoo_vision::aggregate_locally_backward", mutates_args=())
def _aggregate_backward_operator(
    value_nchw: Tensor, weight_nkhw: Tensor, grad_nchw: Tensor, kernel_size: int, groups: int
) -> tuple[Tensor, Tensor]:
    value_ngrkhw, weight_tngkhw = _grouped(value_nchw, weight_nkhw, kernel_size, groups)
    grad_ngrkhw = grad_nchw.contiguous(memory_format=torch.channels_last).unflatten(1, value_ngrkhw.shape[1:4])
    value_grad, weight_grad = _aggregate_backward(value_ngrkhw, weight_tngkhw, grad_ngrkhw)
    margin = [-(kernel_size // 2)] * 4
    weight_grad_nkhw = weight_grad.permute(1, 2, 3, 0, 4, 5).flatten(1, 3)
    return (
        F.pad(value_grad.flatten(1, 3), margin).contiguous(memory_format=torch.channels_last),
        weight_grad_nkhw.contiguous(memory_format=torch.channels_last),
    )


@_aggregate_operator.register_fake
def _like_values(value_nchw: Tensor, *_: object) -> Tensor:
    return torch.empty_like(value_nchw, memory_format=torch.channels_last)


@_aggregate_backward_operator.register_fake
def _like_both(value_nchw: Tensor, weight_nkhw: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return _like_values(value_nchw), _like_values(weight_nkhw)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.sizes = inputs[2:]


def _aggregate_gradient(ctx: Any, grad_nchw: Tensor) -> tuple[Tensor | None, ...]:
    return *_aggregate_backward_operator(*ctx.saved_tensors, grad_nchw, *ctx.sizes), None, None


_aggregate_operator.register_autograd(_aggregate_gradient, setup_context=_save)


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
        # a compiler would take the softmax again for every pixel
        first_nc, second_nc = settled(self.weights(first_nchw, second_nchw).movedim(2, 0)).unbind()
        return torch.addcmul(first_nchw * first_nc[:, :, None, None], second_nchw, second_nc[:, :, None, None])
