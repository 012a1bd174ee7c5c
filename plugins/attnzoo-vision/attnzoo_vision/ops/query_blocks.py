"""Softmax attention by blocks of queries, where the fused kernels would multiply by zeros or ones.

They want one width for keys and values, so narrow keys would be filled with zeros, and logits of rows and columns would
become further features. Here the weights of a block of queries fit the cache, are used, and are computed again in the
backward pass; the map of all pairs is never there.
"""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attnzoo_vision.ops.compiling import compiled_for_cpu, may_specialise, runs_plainly
from attnzoo_vision.ops.differentiate import differentiate, is_last_gradient

Saved = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor]  # query, key, value, row, column, output

_BLOCK = 1 << 20  # weights of a block: few enough for a cache, enough that the values are seldom read again
_FEW_WEIGHTS = 1 << 15  # of a head and sample: with fewer, the calls cost more than the numbers


def narrow_keys(query_nld: Tensor, value_nme: Tensor) -> bool:
    """Say whether values are so much wider than keys that `attend_by_blocks` is quicker, and whether it can be used."""
    return _usable(query_nld) and value_nme.shape[2] >= 2 * query_nld.shape[2]


def many_weights(query_ngld: Tensor, key_ngmd: Tensor) -> bool:
    """Say whether there are so many weights that `attend_by_blocks` is quicker, and whether it can be used."""
    return _usable(query_ngld) and query_ngld.shape[-2] * key_ngmd.shape[-2] >= _FEW_WEIGHTS


def _usable(query: Tensor) -> bool:
    if query.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    return may_specialise(query) and query.dtype in (torch.float32, torch.float64) and query.shape[0] > 0


def attend_by_blocks(
    query: Tensor, key: Tensor, value: Tensor, scale: float, row: Tensor | None = None, column: Tensor | None = None
) -> Tensor:
    """Return ``softmax(scale * query key^T + row + column) value``, ``(..., L, E)``.

    Queries are ``(..., L, D)``, keys ``(..., M, D)``, values ``(..., M, E)``; ``row`` and ``column``, both or none, are
    the logits of every query for the key's row and column, ``(..., L, height)`` and ``(..., L, width)``, with
    ``M = height * width``.
    """
    inputs = (query, key, value, row, column)
    if compiled_for_cpu(query):
        whole: Tensor = _operator(*inputs, scale)
        return whole
    if not runs_plainly():
        return _attend_plainly(scale, *inputs)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        y: Tensor = _Attend.apply(*inputs, scale)  # type: ignore[no-untyped-call]
        return y
    return _forward(query, key, value, row, column, scale)


class _Context(torch.autograd.function.FunctionCtx):
    scale: float
    saved_tensors: Saved


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        query: Tensor, key: Tensor, value: Tensor, row: Tensor | None, column: Tensor | None, scale: float
    ) -> Tensor:
        return _forward(query, key, value, row, column, scale)

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.scale = inputs
        ctx.save_for_backward(*tensors, output)

    @staticmethod
    def backward(ctx: _Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        if not is_last_gradient(grad):
            return *differentiate(partial(_attend_plainly, ctx.scale), ctx.saved_tensors[:5], grad), None
        return *_backward(ctx.saved_tensors, grad, ctx.scale), None


def _attend_plainly(
    scale: float, query: Tensor, key: Tensor, value: Tensor, row: Tensor | None, column: Tensor | None
) -> Tensor:
    logits = torch.matmul(query, key.transpose(-2, -1)) * scale
    if row is not None and column is not None:
        logits = logits + (row.unsqueeze(-1) + column.unsqueeze(-2)).flatten(-2)
    return torch.matmul(torch.softmax(logits, dim=-1), value)


def _blocks(queries: int, keys: int) -> Iterator[slice]:
    step = max(16, _BLOCK // max(1, keys))
    return (slice(start, start + step) for start in range(0, queries, step))


def _matrices(tensor: Tensor | None) -> Iterator[Any]:
    """Yield the matrices of the last two axes, views all of them; for None, None without end."""
    if tensor is None:
        return itertools.repeat(None)
    return iter((tensor,)) if tensor.dim() == 2 else (m for part in tensor for m in _matrices(part))


def _forward(
    query: Tensor, key: Tensor, value: Tensor, row: Tensor | None, column: Tensor | None, scale: float
) -> Tensor:
    queries, y = query.shape[-2], _empty_output(query, value)
    for query_ld, key_md, value_me, row_lh, column_lw, y_le in zip(
        *map(_matrices, (query, key, value, row, column, y)), strict=False
    ):
        for block in _blocks(queries, len(key_md)):
            place = None if row_lh is None else (row_lh[block], column_lw[block])
            torch.mm(_weights(query_ld[block], key_md, place, scale), value_me, out=y_le[block])
    return y


def _empty_output(query: Tensor, value: Tensor) -> Tensor:
    """Return memory for the output, in the order of the values, so that no map has to be transposed."""
    if query.shape[-2] == value.shape[-2]:
        return torch.empty_like(value)
    return value.new_empty(*query.shape[:-1], value.shape[-1])


def _weights(query_bd: Tensor, key_md: Tensor, place: tuple[Tensor, Tensor] | None, scale: float) -> Tensor:
    if place is None:
        logits_bm = torch.mm(query_bd, key_md.t())
        logits_bm = logits_bm.mul_(scale) if scale != 1 else logits_bm
    else:
        row_bh, column_bw = place
        logits_bm = torch.add(row_bh.unsqueeze(2), column_bw.unsqueeze(1)).flatten(1)
        logits_bm.addmm_(query_bd, key_md.t(), alpha=scale)
    return torch.softmax(logits_bm, dim=1, out=logits_bm)


def _backward(saved: Saved, grad: Tensor, scale: float) -> tuple[Tensor | None, ...]:
    """Return the gradients; that of the logits is ``w (g v^T - sum_e(g y))``."""
    grads = [None if t is None else torch.zeros_like(t) for t in saved[:5]]
    tensors = zip(*map(_matrices, (*saved, grad, *grads)), strict=False)
    for query_ld, key_md, value_me, row_lh, column_lw, y_le, grad_le, *grads_of in tensors:
        grad_query_ld, grad_key_md, grad_value_me, grad_row_lh, grad_column_lw = grads_of
        for block in _blocks(len(query_ld), len(key_md)):
            place = None if row_lh is None else (row_lh[block], column_lw[block])
            query_bd, grad_be = query_ld[block], grad_le[block]
            weight_bm = _weights(query_bd, key_md, place, scale)
            grad_value_me.addmm_(weight_bm.t(), grad_be)
            grad_bm = torch.mm(grad_be, value_me.t())
            grad_bm.sub_((grad_be * y_le[block]).sum(dim=1, keepdim=True)).mul_(weight_bm)
            torch.mm(grad_bm, key_md, out=grad_query_ld[block])
            grad_key_md.addmm_(grad_bm.t(), query_bd)
            if place is not None:
                grad_bhw = grad_bm.unflatten(1, (row_lh.shape[1], -1))
                torch.sum(grad_bhw, 2, out=grad_row_lh[block])
                torch.sum(grad_bhw, 1, out=grad_column_lw[block])
    grad_query, grad_key, *others = grads
    assert grad_query is not None
    assert grad_key is not None
    return grad_query.mul_(scale), grad_key.mul_(scale), *others


# Compilers would unroll the loops; as operators of torch, the two passes stay what they are.


@torch.library.custom_op("attnzoo_vision::attend_by_blocks", mutates_args=())
def _operator(
    query: Tensor, key: Tensor, value: Tensor, row: Tensor | None, column: Tensor | None, scale: float
) -> Tensor:
    return _forward(query, key, value, row, column, scale)


@torch.library.custom_op("attnzoo_vision::attend_by_blocks_backward", mutates_args=())
def _backward_operator(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    row: Tensor | None,
    column: Tensor | None,
    output: Tensor,
    grad: Tensor,
    scale: float,
) -> list[Tensor]:
    grads = _backward((query, key, value, row, column, output), grad, scale)
    return [t for t in grads if t is not None]


@_operator.register_fake
def _output_like(query: Tensor, _key: Tensor, value: Tensor, *_: object) -> Tensor:
    return _empty_output(query, value)


@_backward_operator.register_fake
def _grads_like(*inputs: Any) -> list[Tensor]:
    return [torch.zeros_like(t) for t in inputs[:5] if t is not None]


def _operator_backward(ctx: _Context, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = iter(_backward_operator(*ctx.saved_tensors, grad, ctx.scale))
    return *(None if t is None else next(grads) for t in ctx.saved_tensors[:5]), None


_operator.register_autograd(_operator_backward, setup_context=_Attend.setup_context)
