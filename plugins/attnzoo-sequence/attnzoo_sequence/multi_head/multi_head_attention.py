"""Multi-head attention, self and cross."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers, split
from attnzoo_sequence.ops.attend import attend, attend_causal, attention_weights, merge_heads, split_heads, visibility
from attnzoo_sequence.ops.checks import check_heads, check_positive

Heads = tuple[Tensor, Tensor, Tensor]


class MultiHeadAttention(nn.Module):
    """Each head reads, for every query, the mean of the values weighted by how well their keys match the query.

    ``head_h = softmax(Wq_h q (Wk_h k)^T * scale) Wv_h v``; ``y = Wo [head_1; ...; head_H]``

    Args:
        embed_dim: Width of the queries and of the output.
        num_heads: Number of heads; each is ``embed_dim / num_heads`` wide.
        key_dim: Width of the keys, for cross-attention with weights of its own for queries, keys and values. Left out:
            one fused matrix ``in_proj`` (rows: all of q, then k, then v) for inputs of width ``embed_dim``.
        value_dim: Width of the values, like ``key_dim``; when only one of the two is given the other is ``embed_dim``.
        bias: Whether queries, keys and values have a bias.
        output_bias: Whether the output has a bias.
        causal: A query sees the keys up to its own position; the last query is aligned with the last key.
        scale: Factor of the scores; left out: ``1 / sqrt(embed_dim / num_heads)``.
        extra_key: Append a learned key and value that every query sees, whatever the masks.
        zero_key: Append a key and a value of zeros that every query sees.
        dropout: Probability of dropping an attention weight in training.

    Shape:
        query ``(N, L, C)``, key ``(N, M, key_dim)``, value ``(N, M, value_dim)`` to ``(N, L, C)``. Without a key it is
        self-attention; without a value the key gives the values. ``mask`` ``(N, M)`` and ``attn_mask`` ``(L, M)`` or
        ``(N, L, M)`` are boolean, True = may attend; a query that sees no key reads zeros (the output bias remains).

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``.

    Source:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762, section 3.2.2.
        Reference: torch.nn.MultiheadAttention of torch 2.13.0, its initialisation included.
        Deviations: masks mean the opposite of torch's, batch comes first, a fully masked row is zero and never NaN.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        key_dim: int | None = None,
        value_dim: int | None = None,
        bias: bool = True,
        output_bias: bool = True,
        causal: bool = False,
        scale: float | None = None,
        extra_key: bool = False,
        zero_key: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads("MultiHeadAttention", embed_dim, num_heads)
        check_positive("MultiHeadAttention", key_dim=key_dim, value_dim=value_dim)
        self.num_heads, self.causal, self.scale = num_heads, causal, scale
        self.zero_key, self.dropout = zero_key, dropout
        self.fused = key_dim is None and value_dim is None
        if self.fused:
            self.in_proj = nn.Linear(embed_dim, 3 * embed_dim, bias=bias)
        else:
            self.query = nn.Linear(embed_dim, embed_dim, bias=bias)
            self.key = nn.Linear(key_dim or embed_dim, embed_dim, bias=bias)
            self.value = nn.Linear(value_dim or embed_dim, embed_dim, bias=bias)
        self.extra_key = nn.Parameter(torch.empty(embed_dim)) if extra_key else None
        self.extra_value = nn.Parameter(torch.empty(embed_dim)) if extra_key else None
        self.output = nn.Linear(embed_dim, embed_dim, bias=output_bias)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Initialise as ``torch.nn.MultiheadAttention`` does."""
        for linear in [self.in_proj] if self.fused else [self.query, self.key, self.value]:
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        if self.output.bias is not None:
            nn.init.zeros_(self.output.bias)
        for extra in (self.extra_key, self.extra_value):
            if extra is not None:
                nn.init.xavier_normal_(extra[None, None])

    def forward(
        self,
        query_nlc: Tensor,
        key_nmc: Tensor | None = None,
        value_nmc: Tensor | None = None,
        mask_nm: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """Return for each query what its heads read, joined by the output matrix."""
        query_nhld, key_nhmd, value_nhmd = self._project(query_nlc, key_nmc, value_nmc)
        dropout = self.dropout if self.training else 0.0
        own_keys_only = self.extra_key is None and not self.zero_key
        if self.causal and own_keys_only and attn_mask is None:
            read = partial(attend, scale=self.scale, dropout=dropout)
            read_nhld = attend_causal(query_nhld, key_nhmd, value_nhmd, mask_nm=mask_nm, read=read)
        else:
            visible, triangle = self._visible(query_nhld, key_nhmd, mask_nm, attn_mask)
            read_nhld = attend(
                query_nhld,
                key_nhmd,
                value_nhmd,
                visible=visible,
                causal=triangle,
                scale=self.scale,
                dropout=dropout,
            )
        output_nlc: Tensor = self.output(merge_heads(read_nhld))
        return output_nlc

    def attention(
        self,
        query_nlc: Tensor,
        key_nmc: Tensor | None = None,
        value_nmc: Tensor | None = None,
        mask_nm: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, heads, L, M)``; the columns of extra and zero keys come last."""
        query_nhld, key_nhmd, _ = self._project(query_nlc, key_nmc, value_nmc)
        visible, triangle = self._visible(query_nhld, key_nhmd, mask_nm, attn_mask)
        if triangle:
            visible = visibility(query_nhld, key_nhmd, causal=True)
        return {"attention": attention_weights(query_nhld, key_nhmd, visible=visible, scale=self.scale)}

    def _project(self, query_nlc: Tensor, key_nmc: Tensor | None, value_nmc: Tensor | None) -> Heads:
        """Return queries, keys (extra keys last) and values, split into heads."""
        if self.fused and key_nmc is None and value_nmc is None:
            projected = self.in_proj(query_nlc).chunk(3, dim=-1)
        else:
            key_nmc = query_nlc if key_nmc is None else key_nmc
            value_nmc = key_nmc if value_nmc is None else value_nmc
            projected = self._project_apart(query_nlc, key_nmc, value_nmc)
        query_nlc, key_nmc, value_nmc = projected
        extra_keys, extra_values = [key_nmc], [value_nmc]
        shape = (key_nmc.shape[0], 1, key_nmc.shape[2])
        if self.extra_key is not None and self.extra_value is not None:
            extra_keys.append(self.extra_key.to(key_nmc.dtype).expand(shape))
            extra_values.append(self.extra_value.to(value_nmc.dtype).expand(shape))
        if self.zero_key:
            extra_keys.append(key_nmc.new_zeros(shape))
            extra_values.append(value_nmc.new_zeros(shape))
        if len(extra_keys) > 1:
            key_nmc, value_nmc = torch.cat(extra_keys, dim=1), torch.cat(extra_values, dim=1)
        heads = self.num_heads
        return split_heads(query_nlc, heads), split_heads(key_nmc, heads), split_heads(value_nmc, heads)

    def _project_apart(self, query_nlc: Tensor, key_nmc: Tensor, value_nmc: Tensor) -> Heads:
        if not self.fused:
            return self.query(query_nlc), self.key(key_nmc), self.value(value_nmc)
        width = query_nlc.shape[-1]
        if key_nmc is value_nmc:
            query, key_value = split(affine(self.in_proj), [width, 2 * width])
            key_nmc, value_nmc = F.linear(key_nmc, *key_value).chunk(2, -1)
            return F.linear(query_nlc, *query), key_nmc, value_nmc
        query, key, value = split(affine(self.in_proj), [width, width, width])
        return F.linear(query_nlc, *query), F.linear(key_nmc, *key), F.linear(value_nmc, *value)

    def _visible(
        self, query_nhld: Tensor, key_nhmd: Tensor, mask_nm: Tensor | None, attn_mask: Tensor | None
    ) -> tuple[Tensor | None, bool]:
        """Return who sees whom, and whether that is the plain square triangle, which the fused kernel knows."""
        extra = int(self.extra_key is not None) + int(self.zero_key)
        plain = mask_nm is None and attn_mask is None and not extra
        if self.causal and plain and query_nhld.shape[2] == key_nhmd.shape[2]:
            return None, True
        own_keys = key_nhmd[:, :, : key_nhmd.shape[2] - extra]
        visible = visibility(query_nhld, own_keys, mask_nm=mask_nm, attn_mask=attn_mask, causal=self.causal)
        return (F.pad(visible, (0, extra), value=True) if extra and visible is not None else visible), False
