"""Softmax attention of one head by blocks of queries, for values much wider than queries and keys.

The fused kernels want one width, so narrow keys would be filled with zeros and multiplied all the same. Here the
weights of a block of queries fit the cache, are used, and are computed again in the backward pass; the map of all pairs
is never there.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 1 << 20  # weights of a block: few enough for a cache, enough that the values are seldom read again


def attends_by_blocks(query_nld: Tensor, value_nme: Tensor) -> bool:
    """Say whether this form is to be used: eager, on a CPU, in full precision, and with wide values."""
    if torch.compiler.is_compiling() or query_nld.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    full = query_nld.dtype in (torch.float32, torch.float64)
    return full and query_nld.shape[0] > 0 and value_nme.shape[2] >= 2 * query_nld.shape[2]


def attend_by_blocks(query_nld: Tensor, key_nmd: Tensor, value_nme: Tensor, scale: float) -> Tensor:
    """Return ``softmax(scale * query key^T) value``, ``(N, L, E)``."""
    tracked = any(t.requires_grad for t in (query_nld, key_nmd, value_nme))
    if torch.is_grad_enabled() and tracked:
        y_nle: Tensor = _Attend.apply(query_nld, key_nmd, value_nme, scale)  # type: ignore[no-untyped-call]
        return y_nle
    return _forward(query_nld, key_nmd, value_nme, scale)


class _Context(torch.autograd.function.FunctionCtx):
    scale: float
    saved_tensors: tuple[Tensor, Tensor, Tensor, Tensor]


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(query_nld: Tensor, key_nmd: Tensor, value_nme: Tensor, scale: float) -> Tensor:
        return _forward(query_nld, key_nmd, value_nme, scale)

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[Tensor, Tensor, Tensor, float], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3], output)
        ctx.scale = inputs[3]

    @staticmethod
    def backward(ctx: _Context, grad_nle: Tensor) -> tuple[Tensor | None, ...]:
        query_nld, key_nmd, value_nme, y_nle = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return *_backward(query_nld, key_nmd, value_nme, y_nle, grad_nle, ctx.scale), None
        # the gradient is to be differentiated again
        weight_nlm = torch.softmax(torch.bmm(query_nld, key_nmd.transpose(1, 2)) * ctx.scale, dim=2)
        inputs = (query_nld, key_nmd, value_nme)
        return *torch.autograd.grad(torch.bmm(weight_nlm, value_nme), inputs, grad_nle, create_graph=True), None


def _blocks(queries: int, keys: int) -> Iterator[slice]:
    step = max(16, _BLOCK // keys)
    return (slice(start, start + step) for start in range(0, queries, step))


def _forward(query_nld: Tensor, key_nmd: Tensor, value_nme: Tensor, scale: float) -> Tensor:
    y_nle = _like(value_nme, query_nld.shape[1])
    for query_ld, key_md, value_me, y_le in zip(query_nld, key_nmd, value_nme, y_nle, strict=True):
        for rows in _blocks(len(query_ld), len(key_md)):
            torch.mm(_weights(query_ld[rows], key_md, scale), value_me, out=y_le[rows])
    return y_nle


def _like(value_nme: Tensor, queries: int) -> Tensor:
    """Return room for ``(N, queries, E)`` in the order of memory of the values, so that no map has to be transposed."""
    samples, _, width = value_nme.shape
    if value_nme.stride(1) < value_nme.stride(2):
        return value_nme.new_empty(samples, width, queries).transpose(1, 2)
    return value_nme.new_empty(samples, queries, width)


def _weights(query_bd: Tensor, key_md: Tensor, scale: float) -> Tensor:
    logits_bm = torch.mm(query_bd, key_md.t())
    return torch.softmax(logits_bm.mul_(scale) if scale != 1 else logits_bm, dim=1, out=logits_bm)


def _backward(
    query_nld: Tensor, key_nmd: Tensor, value_nme: Tensor, y_nle: Tensor, grad_nle: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients; that of the logits is ``w (g v^T - sum_e(g y))``."""
    grads = [torch.zeros_like(t) for t in (query_nld, key_nmd, value_nme)]
    for query_ld, key_md, value_me, y_le, grad_le, grad_query, grad_key, grad_value in zip(
        query_nld, key_nmd, value_nme, y_nle, grad_nle, *grads, strict=True
    ):
        for rows in _blocks(len(query_ld), len(key_md)):
            query_bd, grad_be = query_ld[rows], grad_le[rows]
            weight_bm = _weights(query_bd, key_md, scale)
            grad_value.addmm_(weight_bm.t(), grad_be)
            grad_bm = torch.mm(grad_be, value_me.t())
            grad_bm.sub_((grad_be * y_le[rows]).sum(dim=1, keepdim=True)).mul_(weight_bm)
            torch.mm(grad_bm, key_md, out=grad_query[rows])
            grad_key.addmm_(grad_bm.t(), query_bd)
    return grads[0].mul_(scale), grads[1].mul_(scale), grads[2]
