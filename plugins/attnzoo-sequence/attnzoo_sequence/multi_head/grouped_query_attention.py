"""Grouped-query attention with rotary positions: several query heads share one key and value head."""

from functools import partial
from typing import Literal

from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.attend import attend, attend_masked, attention_weights, merge_heads, split_heads, visibility
from attnzoo_sequence.ops.checks import check_choice, check_divides, check_heads, check_positive
from attnzoo_sequence.ops.rotary import rotary_tables, rotate


class GroupedQueryAttention(nn.Module):
    """Query head ``h`` reads key and value head ``h // (num_heads / num_kv_heads)``; one such head is multi-query.

    ``head_h = softmax(rot(q_h) rot(k_g)^T / sqrt(d)) v_g``; ``y = Wo [head_1; ...; head_H]``

    Args:
        embed_dim: Width of the input and output.
        num_heads: Number of query heads.
        num_kv_heads: Number of key and value heads; left out: ``num_heads``; 1 is multi-query attention.
        head_dim: Width of a head; left out: ``embed_dim / num_heads``.
        bias: Whether queries, keys and values have a bias.
        output_bias: Whether the output has a bias.
        causal: A query sees the keys up to its own position.
        rotary_base: Base of the rotary frequencies ``base^(-2i / d)``; None: positions are not told.
        rotary_layout: Which channels form a pair: ``half`` (i and i + d/2, Hugging Face files) or ``interleaved`` (2i
            and 2i + 1, Meta's files).
        dropout: Probability of dropping an attention weight in training.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``; ``mask`` ``(N, L)`` is boolean, True = may attend; a query that sees no key
        reads zeros.

    Raises:
        ValueError: The heads do not divide ``embed_dim`` or each other, an odd head with rotary positions.

    Source:
        Ainslie et al., "GQA", EMNLP 2023, arXiv:2305.13245; Shazeer, arXiv:1911.02150 (multi-query).
        Reference: transformers 5.23.0, models/llama/modeling_llama.py; initialisation N(0, 0.02^2).
        Deviations: positions are 0, 1, ... also under a padding mask; no scaling of long-context frequencies.
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
        causal: bool = True,
        rotary_base: float | None = 10000.0,
        rotary_layout: Literal["half", "interleaved"] = "half",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_positive(name, embed_dim=embed_dim, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim)
        if head_dim is None:
            check_heads(name, embed_dim, num_heads)
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads or num_heads
        self.head_dim = head_dim or embed_dim // num_heads
        self.causal, self.dropout = causal, dropout
        self.rotary_base, self.rotary_layout = rotary_base, rotary_layout
        check_choice(name, "rotary_layout", rotary_layout, ("half", "interleaved"))
        check_divides(name, "num_kv_heads", self.num_kv_heads, "num_heads", num_heads)
        if rotary_base is not None and self.head_dim % 2:
            found = f"heads of {self.head_dim} channels, expected an even number, as rotary positions turn pairs"
            message = f"{name}: {found}; choose embed_dim, num_heads or head_dim so, or rotary_base=None"
            raise ValueError(message)
        self.query = nn.Linear(embed_dim, num_heads * self.head_dim, bias=bias)
        self.key = nn.Linear(embed_dim, self.num_kv_heads * self.head_dim, bias=bias)
        self.value = nn.Linear(embed_dim, self.num_kv_heads * self.head_dim, bias=bias)
        self.output = nn.Linear(num_heads * self.head_dim, embed_dim, bias=output_bias)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Draw weights from N(0, 0.02^2), biases zero."""
        for linear in (self.query, self.key, self.value, self.output):
            nn.init.normal_(linear.weight, std=0.02)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return for each token what its heads read from the tokens it sees."""
        query_nhld, key_ngld, value_ngld = self.project(query_nlc)
        output_nlc: Tensor = self.output(merge_heads(self.read(query_nhld, key_ngld, value_ngld, mask_nl)))
        return output_nlc

    def attention(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, num_heads, L, L)``."""
        query_nhld, key_ngld, _ = self.project(query_nlc)
        visible = visibility(query_nhld, key_ngld, mask_nm=mask_nl, causal=self.causal)
        return {"attention": attention_weights(query_nhld, key_ngld, visible=visible)}

    def project(self, query_nlc: Tensor, offset: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return turned queries ``(N, H, L, d)`` and keys ``(N, G, L, d)``, and values; the first is at ``offset``."""
        query_nhld = split_heads(self.norm_query(self.query(query_nlc)), self.num_heads)
        key_ngld = split_heads(self.norm_key(self.key(query_nlc)), self.num_kv_heads)
        value_ngld = split_heads(self.value(query_nlc), self.num_kv_heads)
        if self.rotary_base is not None:
            cos_lp, sin_lp = rotary_tables(query_nhld, rotary_dim=self.head_dim, base=self.rotary_base, offset=offset)
            query_nhld = rotate(query_nhld, cos_lp, sin_lp, self.rotary_layout)
            key_ngld = rotate(key_ngld, cos_lp, sin_lp, self.rotary_layout)
        return query_nhld, key_ngld, value_ngld

    def norm_query(self, query_nlc: Tensor) -> Tensor:
        """Return the queries of all heads as they are; heirs norm them here, before the rotation."""
        return query_nlc

    def norm_key(self, key_nlc: Tensor) -> Tensor:
        """Return the keys of all heads as they are; heirs norm them here, before the rotation."""
        return key_nlc

    def read(self, query_nhld: Tensor, key_ngmd: Tensor, value_ngmd: Tensor, mask_nm: Tensor | None) -> Tensor:
        """Return what each query head reads, ``(N, H, L, d)``."""
        dropout = self.dropout if self.training else 0.0
        read = partial(attend, dropout=dropout)
        return attend_masked(query_nhld, key_ngmd, value_ngmd, causal=self.causal, mask_nm=mask_nm, read=read)
