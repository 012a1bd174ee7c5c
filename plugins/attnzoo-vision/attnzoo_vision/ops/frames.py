"""Frames of clips that lie one behind the other in the batch, and filters along time."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from attnzoo_vision.ops.axis_pooling import mean_over, mean_over_width
from attnzoo_vision.ops.compiling import compiled_for_cpu, runs_plainly, settled
from attnzoo_vision.ops.differentiate import differentiate, is_last_gradient
from attnzoo_vision.ops.layout import channels_last_view

_SMALL_MAP = 256  # pixels


def to_clips(x_fchw: Tensor, num_frames: int, name: str) -> Tensor:
    """Return ``(N, T, C, H, W)``, a view of ``N * T`` frames.

    Raises:
        ValueError: The batch is not a multiple of ``num_frames``.
    """
    frames = x_fchw.shape[0]
    if frames % num_frames:
        message = f"{name}: the input has {frames} frames, expected a multiple of num_frames={num_frames}; "
        message += "give whole clips"
        raise ValueError(message)
    return x_fchw.view(frames // num_frames, num_frames, *x_fchw.shape[1:])


def filter_frames(x_ntchw: Tensor, taps: Sequence[Tensor]) -> Tensor:
    """Return the correlation along time of ``x_ntchw`` with ``taps``, frames before and behind the clip being zero.

    Tap ``k`` multiplies the frame ``k - len(taps) // 2`` steps later and has a shape of five axes that broadcasts to
    ``(N, T, C, H, W)``. Sums of shifted frames need no transposed copy of the clip, as a convolution along time does.
    """
    if torch.compiler.is_compiling():
        return _compiled_filter(x_ntchw, taps)
    if not runs_plainly():
        return _filter_each(x_ntchw, taps)
    if torch.is_grad_enabled():
        y_ntchw: Tensor = _FilterFrames.apply(x_ntchw, *taps)  # type: ignore[no-untyped-call]
        return y_ntchw
    return _filter(x_ntchw, taps)


def _filter(x_ntchw: Tensor, taps: Sequence[Tensor]) -> Tensor:
    y_ntchw = x_ntchw * taps[len(taps) // 2]
    for k, target, source in _shifts(x_ntchw.shape[1], taps):
        y_ntchw[:, target].addcmul_(x_ntchw[:, source], _frames_of(taps[k], target))
    return y_ntchw


def _compiled_filter(x_ntchw: Tensor, taps: Sequence[Tensor]) -> Tensor:
    x_nthwc = x_ntchw.permute(0, 1, 3, 4, 2)
    if x_nthwc.is_contiguous() and not x_ntchw.is_contiguous():
        return _compiled_filter(x_nthwc, [tap.permute(0, 1, 3, 4, 2) for tap in taps]).permute(0, 1, 4, 2, 3)
    if not compiled_for_cpu(x_ntchw):
        return _filter_each(x_ntchw, taps)
    taps = [settled(tap) for tap in taps]
    if not torch.is_grad_enabled():
        return _filter_each(x_ntchw, taps)
    y_ntchw: Tensor = _FilterEach.apply(x_ntchw, *taps)  # type: ignore[no-untyped-call]
    return y_ntchw


def _filter_each(x_ntchw: Tensor, taps: Sequence[Tensor]) -> Tensor:
    """Return `_filter` frame by frame, which compilers join; slices that are written to they copy."""
    terms: list[list[Tensor]] = [[] for _ in range(x_ntchw.shape[1])]
    for k, row, target, source in _pairs(taps, len(terms)):
        terms[target].append(x_ntchw[:, source] * taps[k][:, row])
    return _stack_sums(terms)


def _pairs(taps: Sequence[Tensor], frames: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the number of a tap, the frame of it that counts, the frame that it adds to and the one that it reads."""
    for k, tap in enumerate(taps):
        shift = k - len(taps) // 2
        for target in range(max(0, -shift), frames - max(0, shift)):
            yield k, target % tap.shape[1], target, target + shift


def _stack_sums(terms: list[list[Tensor]]) -> Tensor:
    return torch.stack([sum(rest, first) for first, *rest in terms], dim=1)


def _shifts(frames: int, taps: Sequence[Tensor]) -> Iterator[tuple[int, slice, slice]]:
    """Yield the number of each tap off the centre, the frames that it adds to, and those that it reads."""
    for k in range(len(taps)):
        shift = k - len(taps) // 2
        if shift and abs(shift) < frames:
            yield k, slice(max(0, -shift), frames - max(0, shift)), slice(max(0, shift), frames + min(0, shift))


def _frames_of(tap: Tensor, frames: slice) -> Tensor:
    return tap[:, frames] if tap.shape[1] > 1 else tap


class _FilterFrames(torch.autograd.Function):
    """`_filter` with a gradient that sums shifted frames too, where autograd would copy the clip for each tap."""

    @staticmethod
    def forward(x_ntchw: Tensor, *taps: Tensor) -> Tensor:
        return _filter(x_ntchw, taps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_ntchw: Tensor) -> tuple[Tensor | None, ...]:
        x_ntchw, *taps = ctx.saved_tensors
        if not is_last_gradient(grad_ntchw):
            return differentiate(lambda x, *taps: _filter_each(x, taps), (x_ntchw, *taps), grad_ntchw)
        centre, frames = len(taps) // 2, x_ntchw.shape[1]
        grad_x = grad_ntchw * taps[centre]
        grad_taps = [torch.zeros_like(tap) for tap in taps]
        grad_taps[centre] = (grad_ntchw * x_ntchw).sum_to_size(taps[centre].shape)
        for k, target, source in _shifts(frames, taps):
            tap_here = _frames_of(taps[k], target)
            grad_x[:, source].addcmul_(grad_ntchw[:, target], tap_here)
            product = grad_ntchw[:, target] * x_ntchw[:, source]
            _frames_of(grad_taps[k], target).add_(product.sum_to_size(tap_here.shape))
        return (grad_x, *grad_taps)


class _FilterEach(torch.autograd.Function):
    """`_filter_each` with a gradient that is made frame by frame too, where compilers would write into slices."""

    @staticmethod
    def forward(ctx: Any, x_ntchw: Tensor, *taps: Tensor) -> Tensor:
        ctx.save_for_backward(x_ntchw, *taps)
        return _filter_each(x_ntchw, taps)

    @staticmethod
    def backward(ctx: Any, grad_ntchw: Tensor) -> tuple[Tensor, ...]:
        x_ntchw, *taps = ctx.saved_tensors
        terms: list[list[Tensor]] = [[] for _ in range(x_ntchw.shape[1])]
        grad_taps = [[torch.zeros_like(tap[:, 0])] * tap.shape[1] for tap in taps]
        for k, row, target, source in _pairs(taps, len(terms)):
            tap, grad = taps[k][:, row], grad_ntchw[:, target]
            terms[source].append(grad * tap)
            grad_taps[k][row] = grad_taps[k][row] + (grad * x_ntchw[:, source]).sum_to_size(tap.shape)
        return (_stack_sums(terms), *(torch.stack(rows, dim=1) for rows in grad_taps))


def window_means(x_nchw: Tensor) -> Tensor:
    """Return what each tap of a zero-padded 3x3 convolution sees on average over all pixels, ``(N, C, 3, 3)``.

    Entry ``(dy, dx)`` is the share in the mean of the pixels that this tap is laid on: all but the last row
    (``dy = 0``) or the first one (``dy = 2``), and columns likewise. The mean over pixels of a depthwise 3x3
    convolution is the product of these with its weight. (Sums would overflow in float16.)
    """
    if x_nchw.shape[2] * x_nchw.shape[3] <= _SMALL_MAP:  # sums over a few pixels cost more than a product
        return _window_products(x_nchw)
    columns_nchd = _windows(x_nchw, mean_over_width(x_nchw))
    columns_ncdh = columns_nchd.transpose(2, 3)
    return _windows(columns_ncdh, mean_over(columns_ncdh, 3)).transpose(2, 3)


def _window_products(x_nchw: Tensor) -> Tensor:
    height, width = x_nchw.shape[2:]
    laid_kh, laid_kw = x_nchw.new_ones(3, height), x_nchw.new_ones(3, width)
    for laid in (laid_kh, laid_kw):
        laid[0, -1] = laid[2, 0] = 0
    laid_kp = (laid_kh[:, None, :, None] * laid_kw[:, None, :]).reshape(9, height * width) / (height * width)
    view_nhwc = channels_last_view(x_nchw)
    if view_nhwc is None:
        means_nck = torch.matmul(x_nchw.flatten(2), laid_kp.t())
    else:
        means_nck = torch.matmul(laid_kp, view_nhwc.flatten(1, 2)).transpose(1, 2)
    return torch.unflatten(means_nck, 2, (3, 3))


def window_shares(x_nchw: Tensor) -> Tensor:
    """Return the :func:`window_means` of a map of ones in the sizes of ``x_nchw``, ``(3, 3)``."""
    height, width = x_nchw.shape[2:]
    share_kk = x_nchw.new_ones(3, 3)  # a tensor made of the numbers would be a constant of an exported graph
    share_kk[::2].mul_(1 - 1 / height)
    share_kk[:, ::2].mul_(1 - 1 / width)
    return share_kk


def _windows(x_nchw: Tensor, mean_nch: Tensor) -> Tensor:
    first_nch, last_nch = x_nchw[..., 0] / x_nchw.shape[3], x_nchw[..., -1] / x_nchw.shape[3]
    return torch.stack((mean_nch - last_nch, mean_nch, mean_nch - first_nch), dim=-1)
