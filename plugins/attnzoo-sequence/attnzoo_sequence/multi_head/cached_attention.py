"""Grouped-query attention that decodes with a cache of keys and values."""

import torch
from torch import Tensor

from attnzoo_sequence.multi_head.grouped_query_attention import GroupedQueryAttention
from attnzoo_sequence.ops.attend import attention_weights, merge_heads, visibility


class CachedAttention(GroupedQueryAttention):
    """Causal grouped-query attention over new tokens and a cache of the tokens before them.

    ``cache' = [cache; (rot(Wk x), Wv x)]``; ``head_h = softmax(rot(q_h) k'_g^T / sqrt(d)) v'_g``; fed in any pieces,
    the outputs are those of one pass over the whole sequence.

    The cache is one tensor ``(N, 2, G, S, d)``: keys (after their rotation) and values of ``S`` tokens. Nothing is
    kept in the block: start with none, and pass the cache that the last call returned.

    Args:
        embed_dim: Width of the input and output.
        num_heads: Number of query heads.
        num_kv_heads: Number of key and value heads; left out: ``num_heads``.
        head_dim: Width of a head; left out: ``embed_dim / num_heads``.
        bias: Whether queries, keys and values have a bias.
        output_bias: Whether the output has a bias.
        rotary_base: Base of the rotary frequencies; None: positions are not told.
        dropout: Probability of dropping an attention weight in training.

    Shape:
        query ``(N, L, C)`` and cache ``(N, 2, G, S, d)`` to ``(N, L, C)`` and cache ``(N, 2, G, S + L, d)``. New tokens
        have the positions ``S, S + 1, ...``; ``2 G d`` numbers are stored a token.

    Raises:
        ValueError: The refusals of grouped-query attention.

    Source:
        Shazeer, "Fast Transformer Decoding", 2019, arXiv:1911.02150, section 2.4 (incremental decoding).
        Reference: transformers 5.23.0, cache_utils.py DynamicCache with models/llama and models/gpt2.
        Deviations: one tensor instead of an object that is changed in place.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = False,
        output_bias: bool = False,
        rotary_base: float | None = 10000.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            embed_dim,
            num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            bias=bias,
            output_bias=output_bias,
            rotary_base=rotary_base,
            dropout=dropout,
        )

    def forward(  # type: ignore[override]
        self, query_nlc: Tensor, cache_n2gsd: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs of the new tokens and the cache with the new tokens at its end."""
        query_nhld, grown_n2gmd = self._extend(query_nlc, cache_n2gsd)
        key_ngmd, value_ngmd = grown_n2gmd.unbind(1)
        return self.output(merge_heads(self.read(query_nhld, key_ngmd, value_ngmd, None))), grown_n2gmd

    def attention(self, query_nlc: Tensor, cache_n2gsd: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, H, L, S + L)``, and ``cache_key`` and ``cache_value`` ``(N, G, S + L, d)``."""
        query_nhld, grown_n2gmd = self._extend(query_nlc, cache_n2gsd)
        key_ngmd, value_ngmd = grown_n2gmd.unbind(1)
        visible = visibility(query_nhld, key_ngmd, causal=True)
        weight_nhlm = attention_weights(query_nhld, key_ngmd, visible=visible)
        return {"attention": weight_nhlm, "cache_key": key_ngmd, "cache_value": value_ngmd}

    def _extend(self, query_nlc: Tensor, cache_n2gsd: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the new queries, and the cache with the keys and values of the new tokens."""
        offset = 0 if cache_n2gsd is None else cache_n2gsd.shape[3]
        query_nhld, key_ngld, value_ngld = self.project(query_nlc, offset)
        new_n2gld = torch.stack([key_ngld, value_ngld], dim=1)
        return query_nhld, new_n2gld if cache_n2gsd is None else torch.cat([cache_n2gsd, new_n2gld], dim=3)
