"""The gates and the shuffle of shuffle attention as one function with a gradient of its own, in either memory layout.

Every sample is worked on while it is in the cache, in the layout that it has, and written straight to its shuffled
places. With ``d = x - mean_hw(x)`` both gates are ``sigmoid(a d + b)``: in the first half of a channel group ``a`` is 0
and ``b`` depends on the mean, in the second ``a`` holds the standard deviation.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from attnzoo_vision.ops.compiling import compiled_for_cpu, runs_plainly
from attnzoo_vision.ops.differentiate import differentiate, is_last_gradient
from attnzoo_vision.ops.layout import in_layout_of

Affine = tuple[Tensor, Tensor, Tensor, Tensor]  # (K,) each: weight and bias by the mean, slope and offset by the pixel


def shuffled_gates(x_nchw: Tensor, affine: Affine, groups: int, eps: float) -> Tensor:
    """Return the weighted and shuffled channels of a map that is contiguous or channels-last."""
    if compiled_for_cpu(x_nchw):
        y_nchw: Tensor = _operator(x_nchw, list(affine), groups, eps)[0]
    elif not runs_plainly():
        y_nchw = plain_gates(x_nchw, affine, groups, eps)
    else:
        y_nchw = _ShuffledGates.apply(x_nchw, *affine, groups, eps)  # type: ignore[no-untyped-call]
    return y_nchw


def plain_gates(x_nchw: Tensor, affine: Affine, groups: int, eps: float) -> Tensor:
    """Return the same by plain operators."""
    weight_k, bias_k, slope_k, offset_k = affine
    x_ng2khw = torch.unflatten(x_nchw, 1, (groups, 2, -1))
    first, second = x_ng2khw[:, :, 0], x_ng2khw[:, :, 1]
    gate_ngk = torch.sigmoid(first.mean((3, 4)) * weight_k + bias_k)
    centred = second - second.mean((3, 4), keepdim=True)
    normal = centred * torch.rsqrt(centred.square().mean((3, 4), keepdim=True) + eps)
    pixel = torch.sigmoid(normal * slope_k[:, None, None] + offset_k[:, None, None])
    joined_nchw = torch.stack([first * gate_ngk[..., None, None], second * pixel], dim=2).flatten(1, 3)
    return torch.unflatten(joined_nchw, 1, (2, -1)).transpose(1, 2).flatten(1, 2)


def _gates_plainly(groups: int, eps: float, x_nchw: Tensor, *affine: Tensor) -> Tensor:
    weight_k, bias_k, slope_k, offset_k = affine
    return plain_gates(x_nchw, (weight_k, bias_k, slope_k, offset_k), groups, eps)


class _ShuffledGates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_nchw: Tensor, *rest: Any) -> Tensor:
        affine, groups, eps = rest[:4], rest[4], rest[5]
        y_nchw, mean_nc, inverse_nc = _forward(x_nchw, affine, groups, eps)
        ctx.save_for_backward(x_nchw, *affine, mean_nc, inverse_nc)
        ctx.groups, ctx.eps = groups, eps
        return y_nchw

    @staticmethod
    def backward(ctx: Any, grad_nchw: Tensor) -> tuple[Any, ...]:
        if not is_last_gradient(grad_nchw):
            plain = partial(_gates_plainly, ctx.groups, ctx.eps)
            return *differentiate(plain, ctx.saved_tensors[:5], grad_nchw), None, None
        return *_backward(ctx.saved_tensors, grad_nchw, ctx.groups), None, None


def _forward(x_nchw: Tensor, affine: Affine, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and the means and inverse standard deviations of the channels."""
    rows, axis = _rows(x_nchw)
    y_nchw = torch.empty_like(x_nchw)
    mean_nc = rows.sum(axis + 1) / rows.shape[axis + 1]
    inverse_nc = torch.stack([_inverse(x, mean, axis, eps) for x, mean in zip(rows, mean_nc, strict=True)])
    factor_nc, summand_nc = _factors(mean_nc, inverse_nc, affine, groups)
    for x, mean, factor, summand, y in zip(rows, mean_nc, factor_nc, summand_nc, _rows(y_nchw)[0], strict=True):
        gate = _gate(x - mean.unsqueeze(axis), factor, summand, axis)
        torch.mul(_halves(x, axis), _halves(gate, axis), out=_pairs(y, axis))
    return y_nchw, mean_nc, inverse_nc


def _backward(saved: tuple[Tensor, ...], grad_nchw: Tensor, groups: int) -> tuple[Tensor, ...]:
    """Return the gradients of the map and of the affine parameters."""
    x_nchw, *parameters, mean_nc, inverse_nc = saved
    affine: Affine = (parameters[0], parameters[1], parameters[2], parameters[3])
    factor_nc, summand_nc = _factors(mean_nc, inverse_nc, affine, groups)
    slope_c = torch.stack([affine[0], torch.zeros_like(affine[0])]).repeat(groups, 1, 1).flatten()
    out_nchw = torch.empty_like(x_nchw)
    (rows, axis), out_rows = _rows(x_nchw), _rows(out_nchw)[0]
    grad_rows = _rows(in_layout_of(x_nchw, grad_nchw), axis)[0]
    sums = []
    for index, (x, grad, out) in enumerate(zip(rows, grad_rows, out_rows, strict=True)):
        d = x - mean_nc[index].unsqueeze(axis)
        gate = _gate(d.clone(), factor_nc[index], summand_nc[index], axis)
        torch.mul(_pairs(grad, axis), _halves(gate, axis), out=_halves(out, axis))
        q = gate.neg_().add_(1).mul_(out).mul_(x)
        sum_c, product_c = q.sum(axis), (q * d).sum(axis)
        sums.append(torch.stack([sum_c, product_c]))
        factor, pixels = factor_nc[index], x.shape[axis]
        turn = factor * inverse_nc[index].square() * product_c / -pixels
        out.add_(q.mul_(factor.unsqueeze(axis))).add_(d.mul_(turn.unsqueeze(axis)))
        out.add_(((slope_c - factor) * sum_c / pixels).unsqueeze(axis))
    return out_nchw, *_affine_gradients(torch.stack(sums, 1), mean_nc, inverse_nc, groups)


def _affine_gradients(sums_2nc: Tensor, mean_nc: Tensor, inverse_nc: Tensor, groups: int) -> tuple[Tensor, ...]:
    sum_nghk, product_nghk, mean_nghk, inverse_nghk = (
        t.unflatten(1, (groups, 2, -1)) for t in (*sums_2nc, mean_nc, inverse_nc)
    )
    weight_nghk, slope_nghk = sum_nghk * mean_nghk, product_nghk * inverse_nghk
    terms = (weight_nghk[:, :, 0], sum_nghk[:, :, 0], slope_nghk[:, :, 1], sum_nghk[:, :, 1])
    return tuple(term.sum((0, 1)) for term in terms)


def _rows(x_nchw: Tensor, axis: int | None = None) -> tuple[Tensor, int]:
    """Return the view in memory order, ``(N, C, L)`` or ``(N, L, C)``, and which axis of a sample the pixels are."""
    if axis == 1 or (axis is None and x_nchw.is_contiguous()):
        return x_nchw.flatten(2), 1
    return x_nchw.permute(0, 2, 3, 1).flatten(1, 2), 0


def _halves(x: Tensor, axis: int) -> Tensor:
    """Return the channels of a sample as the first and the second half of them."""
    halves: Tensor = x.unflatten(1 - axis, (2, -1))
    return halves


def _pairs(y: Tensor, axis: int) -> Tensor:
    """Return the channels of a shuffled sample in the order of :func:`_halves`."""
    pairs: Tensor = y.unflatten(1 - axis, (-1, 2)).transpose(1 - axis, 2 - axis)
    return pairs


def _inverse(x: Tensor, mean_c: Tensor, axis: int, eps: float) -> Tensor:
    """Return one over the standard deviation of each channel."""
    squared = (x - mean_c.unsqueeze(axis)).square_()
    return (squared.sum(axis) / x.shape[axis] + eps).rsqrt_()


def _factors(mean_nc: Tensor, inverse_nc: Tensor, affine: Affine, groups: int) -> tuple[Tensor, Tensor]:
    """Return ``a`` and ``b`` of the gates, ``(N, C)`` each."""
    weight_k, bias_k, slope_k, offset_k = affine
    mean_nghk, inverse_nghk = (t.unflatten(1, (groups, 2, -1)) for t in (mean_nc, inverse_nc))
    factor = torch.stack([torch.zeros_like(mean_nghk[:, :, 0]), inverse_nghk[:, :, 1] * slope_k], dim=2)
    summand = torch.stack([mean_nghk[:, :, 0] * weight_k + bias_k, offset_k.expand_as(mean_nghk[:, :, 1])], dim=2)
    return factor.flatten(1), summand.flatten(1)


def _gate(d: Tensor, factor_c: Tensor, summand_c: Tensor, axis: int) -> Tensor:
    """Return the weights; ``d`` is overwritten."""
    return d.mul_(factor_c.unsqueeze(axis)).add_(summand_c.unsqueeze(axis)).sigmoid_()


# As operators of torch the loops over samples stay what they are under a compiler.


@torch.library.custom_op("attnzoo_vision::shuffled_gates", mutates_args=())
def _operator(x_nchw: Tensor, affine: list[Tensor], groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return _forward(x_nchw, (affine[0], affine[1], affine[2], affine[3]), groups, eps)


@torch.library.custom_op("attnzoo_vision::shuffled_gates_backward", mutates_args=())
def _backward_operator(saved: list[Tensor], grad_nchw: Tensor, groups: int) -> list[Tensor]:
    return list(_backward(tuple(saved), grad_nchw, groups))


@_operator.register_fake
def _outputs_like(x_nchw: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x_nchw), x_nchw.new_empty(x_nchw.shape[:2]), x_nchw.new_empty(x_nchw.shape[:2])


@_backward_operator.register_fake
def _grads_like(saved: list[Tensor], *_: object) -> list[Tensor]:
    return [torch.empty_like(t) for t in saved[:5]]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x_nchw, affine, ctx.groups, _ = inputs
    ctx.save_for_backward(x_nchw, *affine, *output[1:])


def _operator_gradient(ctx: Any, grad_nchw: Tensor, *_: Tensor) -> tuple[Any, ...]:
    grad, *affine_grads = _backward_operator(list(ctx.saved_tensors), grad_nchw, ctx.groups)
    return grad, affine_grads, None, None


_operator.register_autograd(_operator_gradient, setup_context=_save)
