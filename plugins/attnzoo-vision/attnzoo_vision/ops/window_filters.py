"""Overlapping windows of weights merged into one filter a pixel, and such filters applied, with gradients of their own.

Autograd would write a whole map of zeros for each slice that the loops below take.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

Slices = tuple[slice | int, ...]

_CACHED_NUMBERS = 32768


def merge_windows(weight_ngijyxhw: Tensor) -> Tensor:
    """Return filters ``(N, G, 2K - 1, 2K - 1, H, W)`` of windows ``(N, G, K, K, K, K, H, W)`` that are summed up.

    Windows lie around their pixel; ``i, j`` is the place in a window that is written, ``y, x`` the one that is read.
    """
    merged: Tensor = _Merge.apply(weight_ngijyxhw)  # type: ignore[no-untyped-call]
    return merged


def apply_filters(value_ngds: Tensor, filter_ngtl: Tensor, shifts: Sequence[int]) -> Tensor:
    """Return ``sum_t filter[t, l] * value[l + shifts[t]]`` of each channel, ``(N, G, D, L)``."""
    y_ngdl: Tensor = _Apply.apply(value_ngds, filter_ngtl, shifts)  # type: ignore[no-untyped-call]
    return y_ngdl


class _Merge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight_ngijyxhw: Tensor) -> Tensor:
        samples, heads, size = weight_ngijyxhw.shape[:3]
        height, width = weight_ngijyxhw.shape[-2:]
        merged = weight_ngijyxhw.new_zeros(samples, heads, 2 * size - 1, 2 * size - 1, height, width)
        for inside, outside in _places(size, height, width):
            merged[outside] += weight_ngijyxhw[inside]
        return merged

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        gradient: Tensor = _Split.apply(grad)  # type: ignore[no-untyped-call]
        return gradient


class _Split(torch.autograd.Function):
    """The transpose of the merging, and so its gradient."""

    @staticmethod
    def forward(ctx: Any, merged: Tensor) -> Tensor:
        samples, heads, taps = merged.shape[:3]
        height, width = merged.shape[-2:]
        size = (taps + 1) // 2
        weight_ngijyxhw = merged.new_zeros(samples, heads, size, size, size, size, height, width)
        for inside, outside in _places(size, height, width):
            weight_ngijyxhw[inside] = merged[outside]
        return weight_ngijyxhw

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return merge_windows(grad)


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
    """Works on as many heads at a time as stay in the cache together with their sums."""

    @staticmethod
    def forward(ctx: Any, value_ngds: Tensor, filter_ngtl: Tensor, shifts: Sequence[int]) -> Tensor:
        ctx.save_for_backward(value_ngds, filter_ngtl)
        ctx.shifts = shifts
        length = filter_ngtl.shape[3]
        y_ngdl = value_ngds.new_empty(*value_ngds.shape[:3], length)
        for value_hds, filter_htl, y_hdl in _some_heads(value_ngds, filter_ngtl, y_ngdl):
            torch.mul(value_hds[..., shifts[0] : shifts[0] + length], filter_htl[:, 0, None], out=y_hdl)
            for tap, shift in enumerate(shifts[1:], start=1):
                y_hdl.addcmul_(value_hds[..., shift : shift + length], filter_htl[:, tap, None])
        return y_ngdl

    @staticmethod
    def backward(ctx: Any, grad_ngdl: Tensor) -> tuple[Tensor | None, ...]:
        value_ngds, filter_ngtl = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            y_ngdl = _apply_plainly(value_ngds, filter_ngtl, ctx.shifts)
            return *torch.autograd.grad(y_ngdl, (value_ngds, filter_ngtl), grad_ngdl, create_graph=True), None
        value_grad, filter_grad = torch.zeros_like(value_ngds), torch.empty_like(filter_ngtl)
        length = filter_ngtl.shape[3]
        for value_hds, filter_htl, grad_hdl, value_grad_hds, filter_grad_htl in _some_heads(
            value_ngds, filter_ngtl, grad_ngdl, value_grad, filter_grad
        ):
            for tap, shift in enumerate(ctx.shifts):
                torch.sum(grad_hdl * value_hds[..., shift : shift + length], dim=1, out=filter_grad_htl[:, tap])
                value_grad_hds[..., shift : shift + length].addcmul_(grad_hdl, filter_htl[:, tap, None])
        return value_grad, filter_grad, None


def _some_heads(value_ngds: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield all tensors a few heads at a time, samples and heads as one axis."""
    heads = max(1, _CACHED_NUMBERS // max(1, value_ngds.shape[2] * value_ngds.shape[3]))
    return zip(*(t.flatten(0, 1).split(heads) for t in (value_ngds, *others)), strict=True)


def _apply_plainly(value_ngds: Tensor, filter_ngtl: Tensor, shifts: Sequence[int]) -> Tensor:
    length = filter_ngtl.shape[3]
    terms = (value_ngds[..., shift : shift + length] * filter_ngtl[:, :, tap, None] for tap, shift in enumerate(shifts))
    first = next(terms)
    return sum(terms, first)
