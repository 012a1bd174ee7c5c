"""Attention with positive features: sums over keys come first, so time and memory grow linearly with the length."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_sequence.ops.norm import or_one

CHUNK = 64


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """Return float32 for the half precisions, else the dtype of ``x``: long sums lose digits in half precision."""
    return torch.promote_types(x.dtype, torch.float32)


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which products stay as wide as their inputs; autocast would narrow long sums again."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def feature_attend(query_nhlf: Tensor, key_nhmf: Tensor, value_nhme: Tensor, *, causal: bool, eps: float) -> Tensor:
    """Return ``sum_j q.k_j v_j / (sum_j q.k_j + eps)`` of features ``q``, ``k`` that are never negative."""
    dtype = accumulation_dtype(value_nhme)
    query_nhlf, key_nhmf, wide_nhme = query_nhlf.to(dtype), key_nhmf.to(dtype), value_nhme.to(dtype)
    with without_autocast(wide_nhme):
        if causal:
            total = _prefix_products(query_nhlf, key_nhmf, F.pad(wide_nhme, (0, 1), value=1.0))
            weighted, norm = total[..., :-1], total[..., -1:]
        else:
            weighted = query_nhlf @ (key_nhmf.transpose(-2, -1) @ wide_nhme)
            norm = query_nhlf @ key_nhmf.sum(dim=-2).unsqueeze(-1)
    return (weighted / or_one(norm + eps)).to(value_nhme.dtype)


def feature_weights(query_nhlf: Tensor, key_nhmf: Tensor, *, causal: bool, eps: float) -> Tensor:
    """Return the weights ``(n, h, l, m)`` that ``feature_attend`` never forms."""
    dtype = accumulation_dtype(key_nhmf)
    with without_autocast(key_nhmf):
        score_nhlm = query_nhlf.to(dtype) @ key_nhmf.to(dtype).transpose(-2, -1)
    if causal:
        score_nhlm = score_nhlm.tril(key_nhmf.shape[2] - query_nhlf.shape[2])
    return (score_nhlm / or_one(score_nhlm.sum(dim=-1, keepdim=True) + eps)).to(key_nhmf.dtype)


def _prefix_products(query_nhlf: Tensor, key_nhmf: Tensor, value_nhme: Tensor) -> Tensor:
    """Return ``q_i sum_{j <= i} k_j v_j^T``; the last query is aligned with the last key.

    Products inside a chunk are formed pair by pair, those with earlier chunks through the running sum of ``k v^T``.
    """
    length, keys = query_nhlf.shape[2], key_nhmf.shape[2]
    total = -(-max(length, keys) // CHUNK) * CHUNK
    query = F.pad(query_nhlf, (0, 0, total - length, 0)).unflatten(2, (-1, CHUNK))
    key = F.pad(key_nhmf, (0, 0, total - keys, 0)).unflatten(2, (-1, CHUNK))
    value = F.pad(value_nhme, (0, 0, total - keys, 0)).unflatten(2, (-1, CHUNK))
    chunk_sum = key.transpose(-2, -1) @ value
    before = F.pad(chunk_sum.cumsum(dim=2)[:, :, :-1], (0, 0, 0, 0, 1, 0))
    out = (query @ key.transpose(-2, -1)).tril() @ value + query @ before
    result: Tensor = out.flatten(2, 3)[:, :, total - length :]
    return result
