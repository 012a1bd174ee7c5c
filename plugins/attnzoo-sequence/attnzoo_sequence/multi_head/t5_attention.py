"""T5's attention: unscaled scores with a learned bias for each bucket of distances."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_sequence.ops.attend import (
    ROWS,
    attend,
    attend_causal,
    attention_weights,
    causal_mask,
    merge_heads,
    split_heads,
    visibility,
)
from attnzoo_sequence.ops.checks import check_heads, check_positive

_ALL_PAIRS = 2**20  # up to this many the bias is made at once, which is faster


class T5Attention(nn.Module):
    """Attention, self or cross, whose scores are not scaled and get a learned bias by distance.

    ``head_h = softmax(q_h k_h^T + table[bucket(j - i), h]) v_h``. Near distances have a bucket each, far ones share
    buckets that grow with the logarithm; two-way attention has one half of the buckets for keys after the query.

    Args:
        embed_dim: Width of the input and output.
        num_heads: Number of heads.
        head_dim: Width of a head; left out: ``embed_dim / num_heads``.
        num_buckets: Number of buckets.
        max_distance: Distance from which all share the last bucket.
        bidirectional: Buckets on both sides of the query (encoder); False: keys after the query share bucket 0
            (decoder).
        causal: A query sees the keys up to its own position.
        relative_bias: Whether this layer has the table; T5 has it in the first layer of each stack.
        dropout: Probability of dropping an attention weight in training.

    Shape:
        query ``(N, L, C)`` and key ``(N, M, C)``, which also gives the values (left out: the query), to ``(N, L, C)``;
        ``mask`` ``(N, M)`` is boolean, True = may attend; a query that sees no key reads zeros.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim`` and ``head_dim`` is left out; too few buckets.

    Source:
        Raffel et al., "Exploring the Limits of Transfer Learning", JMLR 2020, arXiv:1910.10683, section 2.1.
        Reference: transformers 5.23.0, models/t5/modeling_t5.py, its initialisation included.
        Deviations: a bias cannot be handed on from layer to layer; give each layer a table or none.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        head_dim: int | None = None,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        causal: bool = False,
        relative_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive("T5Attention", embed_dim=embed_dim, num_heads=num_heads, head_dim=head_dim)
        if head_dim is None:
            check_heads("T5Attention", embed_dim, num_heads)
        exact = num_buckets // (4 if bidirectional else 2)
        if exact < 1:
            message = f"T5Attention: num_buckets={num_buckets}, expected {4 if bidirectional else 2} or more"
            raise ValueError(message)
        if max_distance <= exact:
            message = f"T5Attention: max_distance={max_distance} must be over {exact}, the exact buckets"
            raise ValueError(message)
        self.num_heads, self.head_dim = num_heads, head_dim or embed_dim // num_heads
        self.num_buckets, self.max_distance, self.bidirectional = num_buckets, max_distance, bidirectional
        self.causal, self.dropout = causal, dropout
        width = num_heads * self.head_dim
        self.query = nn.Linear(embed_dim, width, bias=False)
        self.key = nn.Linear(embed_dim, width, bias=False)
        self.value = nn.Linear(embed_dim, width, bias=False)
        self.output = nn.Linear(width, embed_dim, bias=False)
        self.relative_bias = nn.Embedding(num_buckets, num_heads) if relative_bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw from normal distributions; the scale that the scores lack is in the queries' deviation."""
        embed_dim, width = self.query.in_features, self.query.out_features
        nn.init.normal_(self.query.weight, std=(embed_dim * self.head_dim) ** -0.5)
        for module in (self.key, self.value, self.relative_bias):
            if module is not None:
                nn.init.normal_(module.weight, std=embed_dim**-0.5)
        nn.init.normal_(self.output.weight, std=width**-0.5)

    def forward(self, query_nlc: Tensor, key_nmc: Tensor | None = None, mask_nm: Tensor | None = None) -> Tensor:
        """Return for each query what its heads read."""
        key_nmc = query_nlc if key_nmc is None else key_nmc
        query_nhld = split_heads(self.query(query_nlc), self.num_heads)
        key_nhmd = split_heads(self.key(key_nmc), self.num_heads)
        value_nhmd = split_heads(self.value(key_nmc), self.num_heads)
        output_nlc: Tensor = self.output(merge_heads(self._read(query_nhld, key_nhmd, value_nhmd, mask_nm)))
        return output_nlc

    def _read(self, query_nhld: Tensor, key_nhmd: Tensor, value_nhmd: Tensor, mask_nm: Tensor | None) -> Tensor:
        """Return what each head reads; many queries go in pieces, so that the bias of all pairs is not there."""
        length, keys, dropout = query_nhld.shape[2], key_nhmd.shape[2], self.dropout if self.training else 0.0
        if self.causal and self.relative_bias is None:
            read = partial(attend, scale=1.0, dropout=dropout)
            return attend_causal(query_nhld, key_nhmd, value_nhmd, mask_nm=mask_nm, read=read)
        if not length * keys:
            return torch.zeros_like(query_nhld)
        row_ht = None if self.relative_bias is None else self._bias_by_distance(length, keys)
        whole = torch.compiler.is_compiling() or row_ht is None or length * keys <= _ALL_PAIRS
        rows = max(length, 1) if whole else ROWS
        reads = []
        for first in range(0, max(length, 1), rows):
            query = query_nhld[:, :, first : first + rows]
            last = first + query.shape[2]
            bias = None if row_ht is None else _windows(row_ht[:, length - last : length - first - 1 + keys], keys)
            visible = visibility(query, key_nhmd, mask_nm=mask_nm)
            if self.causal:
                triangle = causal_mask(last - first, keys - length + last, query.device)
                triangle = F.pad(triangle, (0, length - last), value=False)
                visible = triangle if visible is None else visible & triangle
            reads.append(attend(query, key_nhmd, value_nhmd, visible=visible, bias=bias, scale=1.0, dropout=dropout))
        return reads[0] if len(reads) == 1 else torch.cat(reads, dim=2)

    def attention(
        self, query_nlc: Tensor, key_nmc: Tensor | None = None, mask_nm: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, heads, L, M)`` and, with a table, ``bias`` ``(1, heads, L, M)``."""
        key_nmc = query_nlc if key_nmc is None else key_nmc
        query_nhld = split_heads(self.query(query_nlc), self.num_heads)
        key_nhmd = split_heads(self.key(key_nmc), self.num_heads)
        visible = visibility(query_nhld, key_nhmd, mask_nm=mask_nm, causal=self.causal)
        bias = self.position_bias(query_nlc.shape[1], key_nmc.shape[1])
        maps = {"attention": attention_weights(query_nhld, key_nhmd, visible=visible, bias=bias, scale=1.0)}
        return maps if bias is None else maps | {"bias": bias}

    def position_bias(self, length: int, keys: int) -> Tensor | None:
        """Return the bias ``(1, heads, length, keys)``; it depends on the distance alone: one row is looked up."""
        if self.relative_bias is None:
            return None
        return _windows(self._bias_by_distance(length, keys), keys)

    def _bias_by_distance(self, length: int, keys: int) -> Tensor:
        """Return the bias of the distances from ``1 - length`` to ``keys - 1``, ``(heads, t)``."""
        assert self.relative_bias is not None
        distance = torch.arange(1 - length, keys, device=self.relative_bias.weight.device)
        row_ht: Tensor = self.relative_bias(self._bucket(distance)).transpose(0, 1)
        return row_ht

    def _bucket(self, distance: Tensor) -> Tensor:
        """Return the bucket of each distance (key minus query)."""
        buckets = self.num_buckets // 2 if self.bidirectional else self.num_buckets
        first = (distance > 0).long() * buckets if self.bidirectional else torch.zeros_like(distance)
        distance = distance.abs() if self.bidirectional else (-distance).clamp(min=0)
        exact = buckets // 2
        growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        far = (exact + (growth * (buckets - exact)).long()).clamp(max=buckets - 1)
        return first + torch.where(distance < exact, distance, far)


def _windows(row_ht: Tensor, keys: int) -> Tensor:
    """Return ``(1, heads, l, keys)``: the last query has the first entries, each one before it starts a step on."""
    bias_1hlm: Tensor = row_ht.unfold(1, keys, 1).flip(1)[None]
    return bias_1hlm
