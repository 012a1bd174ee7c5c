"""Overlapping windows of weights merged into one filter a pixel, and such filters applied, with gradients of their own.

Autograd would write a whole map of zeros for each slice that the loops below take, and compilers would unroll them: for
these they are operators.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attnzoo_vision.ops.compiling import compiled_for_cpu, runs_plainly
from attnzoo_vision.ops.differentiate import differentiate, is_last_gradient

Slices = tuple[slice | int, ...]

_CACHED_NUMBERS = 32768


def merge_windows(weight_ngijyxhw: Tensor) -> Tensor:
    """Return filters ``(N, G, 2K - 1, 2K - 1, H, W)`` of windows ``(N, G, K, K, K, K, H, W)`` that are summed up.

    Windows lie around their pixel; ``i, j`` is the place in a window that is written, ``y, x`` the one that is read.
    """
    if compiled_for_cpu(weight_ngijyxhw):
        whole: Tensor = _merge_operator(weight_ngijyxhw)
        return whole
    if not runs_plainly():
        return _merge(weight_ngijyxhw)
    merged: Tensor = _Merge.apply(weight_ngijyxhw)  # type: ignore[no-untyped-call]
    return merged


def apply_filters(value_ngds: Tensor, filter_ngtl: Tensor, shifts: Sequence[int]) -> Tensor:
    """Return ``sum_t filter[t, l] * value[l + shifts[t]]`` of each channel, ``(N, G, D, L)``."""
    if compiled_for_cpu(value_ngds):
        whole: Tensor = _apply_operator(value_ngds, filter_ngtl, shifts)
        return whole
    if not runs_plainly():
        return _apply_plainly(value_ngds, filter_ngtl, shifts)
    y_ngdl: Tensor = _Apply.apply(value_ngds, filter_ngtl, shifts)  # type: ignore[no-untyped-call]
    return y_ngdl


class _Merge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight_ngijyxhw: Tensor) -> Tensor:
        return _merge(weight_ngijyxhw)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        gradient: Tensor = _Split.apply(grad)  # type: ignore[no-untyped-call]
        return gradient


class _Split(torch.autograd.Function):
    """The transpose of the merging, and so its gradient."""

    @staticmethod
    def forward(ctx: Any, merged: Tensor) -> Tensor:
        return _split(merged)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return merge_windows(grad)


def _merge(weight_ngijyxhw: Tensor) -> Tensor:
    size = weight_ngijyxhw.shape[2]
    merged = torch.zeros_like(_merged_like(weight_ngijyxhw))
    for inside, outside in _places(size, *weight_ngijyxhw.shape[-2:]):
        merged[outside] += weight_ngijyxhw[inside]
    return merged


def _merged_like(weight_ngijyxhw: Tensor) -> Tensor:
    samples, heads, size = weight_ngijyxhw.shape[:3]
    return weight_ngijyxhw.new_empty(samples, heads, 2 * size - 1, 2 * size - 1, *weight_ngijyxhw.shape[-2:])


def _split(merged: Tensor) -> Tensor:
    weight_ngijyxhw = torch.zeros_like(_split_like(merged))
    for inside, outside in _places(weight_ngijyxhw.shape[2], *merged.shape[-2:]):
        weight_ngijyxhw[inside] = merged[outside]
    return weight_ngijyxhw


def _split_like(merged: Tensor) -> Tensor:
    size = (merged.shape[2] + 1) // 2
    return merged.new_empty(*merged.shape[:2], size, size, size, size, *merged.shape[-2:])


def _places(size: int, height: int, width: int) -> Iterator[tuple[Slices, Slices]]:
    """Yield for each place in a window the part of the weights and the part of the filters that belong together."""
    every = slice(None)
    for i in range(size):
        for j in range(size):
            down, right = i - size // 2, j - size // 2
            rows = slice(max(0, down), min(height, height + down))
            columns = slice(max(0, right), min(width, width + right))
            if rows.start < rows.stop and columns.start < columns.stop:
                taps = (slice(size - 1 - i, 2 * size - 1 - i), slice(size - 1 - j, 2 * size - 1 - j))
                source = (
                    slice(rows.start - down, rows.stop - down),
                    slice(columns.start - right, columns.stop - right),
                )
                yield (every, every, i, j, every, every, *source), (every, every, *taps, rows, columns)


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value_ngds: Tensor, filter_ngtl: Tensor, shifts: Sequence[int]) -> Tensor:
        ctx.save_for_backward(value_ngds, filter_ngtl)
        ctx.shifts = shifts
        return _apply(value_ngds, filter_ngtl, shifts)

    @staticmethod
    def backward(ctx: Any, grad_ngdl: Tensor) -> tuple[Tensor | None, ...]:
        value_ngds, filter_ngtl = ctx.saved_tensors
        if not is_last_gradient(grad_ngdl):
            plain = partial(_apply_plainly, shifts=ctx.shifts)
            return *differentiate(plain, (value_ngds, filter_ngtl), grad_ngdl), None
        return *_apply_backward(value_ngds, filter_ngtl, grad_ngdl, ctx.shifts), None


def _apply(value_ngds: Tensor, filter_ngtl: Tensor, shifts: Sequence[int]) -> Tensor:
    y_ngdl, length = _applied_like(value_ngds, filter_ngtl, shifts), filter_ngtl.shape[3]
    for value_hds, filter_htl, y_hdl in _some_heads(value_ngds, filter_ngtl, y_ngdl):
        torch.mul(value_hds[..., shifts[0] : shifts[0] + length], filter_htl[:, 0, None], out=y_hdl)
        for tap, shift in enumerate(shifts[1:], start=1):
            y_hdl.addcmul_(value_hds[..., shift : shift + length], filter_htl[:, tap, None])
    return y_ngdl


def _applied_like(value_ngds: Tensor, filter_ngtl: Tensor, _shifts: Sequence[int]) -> Tensor:
    return value_ngds.new_empty(*value_ngds.shape[:3], filter_ngtl.shape[3])


def _apply_backward(
    value_ngds: Tensor, filter_ngtl: Tensor, grad_ngdl: Tensor, shifts: Sequence[int]
) -> tuple[Tensor, Tensor]:
    # in the order of the axes, whatever that of the inputs is: samples and heads are to be one axis of the same memory
    value_grad, filter_grad = value_ngds.new_zeros(value_ngds.shape), filter_ngtl.new_empty(filter_ngtl.shape)
    length = filter_ngtl.shape[3]
    for value_hds, filter_htl, grad_hdl, value_grad_hds, filter_grad_htl in _some_heads(
        value_ngds, filter_ngtl, grad_ngdl, value_grad, filter_grad
    ):
        for tap, shift in enumerate(shifts):
            torch.sum(grad_hdl * value_hds[..., shift : shift + length], dim=1, out=filter_grad_htl[:, tap])
            value_grad_hds[..., shift : shift + length].addcmul_(grad_hdl, filter_htl[:, tap, None])
    return value_grad, filter_grad


def _some_heads(value_ngds: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield all tensors as many heads at a time as stay in the cache together, samples and heads as one axis."""
    heads = max(1, _CACHED_NUMBERS // max(1, value_ngds.shape[2] * value_ngds.shape[3]))
    return zip(*(t.flatten(0, 1).split(heads) for t in (value_ngds, *others)), strict=True)


def _apply_plainly(value_ngds: Tensor, filter_ngtl: Tensor, shifts: Sequence[int]) -> Tensor:
    length = filter_ngtl.shape[3]
    terms = (value_ngds[..., shift : shift + length] * filter_ngtl[:, :, tap, None] for tap, shift in enumerate(shifts))
    first = next(terms)
    return sum(terms, first)


@torch.library.custom_op("attnzoo_vision::merge_windows", mutates_args=())
def _merge_operator(weight_ngijyxhw: Tensor) -> Tensor:
    return _merge(weight_ngijyxhw)


@torch.library.custom_op("attnzoo_vision::split_windows", mutates_args=())
def _split_operator(merged: Tensor) -> Tensor:
    return _split(merged)


@torch.library.custom_op("attnzoo_vision::apply_filters", mutates_args=())
def _apply_operator(value_ngds: Tensor, filter_ngtl: Tensor, shifts: Sequence[int]) -> Tensor:
    return _apply(value_ngds.contiguous(), filter_ngtl.contiguous(), shifts)


@torch.library.custom_op("attnzoo_vision::apply_filters_backward", mutates_args=())
def _apply_backward_operator(
    value_ngds: Tensor, filter_ngtl: Tensor, grad_ngdl: Tensor, shifts: Sequence[int]
) -> tuple[Tensor, Tensor]:
    return _apply_backward(value_ngds.contiguous(), filter_ngtl.contiguous(), grad_ngdl.contiguous(), shifts)


_merge_operator.register_fake(_merged_like)
_split_operator.register_fake(_split_like)
_apply_operator.register_fake(_applied_like)


@_apply_backward_operator.register_fake
def _grads_like(value_ngds: Tensor, filter_ngtl: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return value_ngds.new_empty(value_ngds.shape), filter_ngtl.new_empty(filter_ngtl.shape)


_merge_operator.register_autograd(lambda _ctx, grad: _split_operator(grad))
_split_operator.register_autograd(lambda _ctx, grad: _merge_operator(grad))


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, list[int]], output: Tensor) -> None:
    value_ngds, filter_ngtl, ctx.shifts = inputs
    ctx.save_for_backward(value_ngds, filter_ngtl)


def _apply_gradient(ctx: Any, grad_ngdl: Tensor) -> tuple[Tensor | None, ...]:
    return *_apply_backward_operator(*ctx.saved_tensors, grad_ngdl, ctx.shifts), None


_apply_operator.register_autograd(_apply_gradient, setup_context=_save)
