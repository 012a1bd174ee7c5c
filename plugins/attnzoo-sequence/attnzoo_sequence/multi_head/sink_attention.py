"""Grouped-query attention with a learned sink for each head, in full or within a sliding window."""

import functools

import torch
from torch import Tensor, nn

from attnzoo_sequence.multi_head.grouped_query_attention import GroupedQueryAttention
from attnzoo_sequence.ops.attend import attend_causal, visibility
from attnzoo_sequence.ops.banded import banded_attend
from attnzoo_sequence.ops.checks import check_positive
from attnzoo_sequence.ops.sinks import attend_with_sink, weights_with_sink


class SinkAttention(GroupedQueryAttention):
    """Causal grouped-query attention whose heads may attend to a learned score that has no value.

    ``head_h = softmax([rot(q_h) rot(k_g)^T / sqrt(d); sink_h])`` without its last column, times ``v_g``

    Args:
        embed_dim: Width of the input and output.
        num_heads: Number of query heads, each with its sink.
        num_kv_heads: Number of key and value heads; left out: ``num_heads``.
        head_dim: Width of a head; left out: ``embed_dim / num_heads``.
        window_size: Number of tokens that a token sees, itself included; None: all before it.
        bias: Whether queries, keys, values and the output have a bias.
        rotary_base: Base of the rotary frequencies; None: positions are not told.
        dropout: Probability of dropping an attention weight in training.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``; ``mask`` ``(N, L)`` is boolean, True = may attend.

    Raises:
        ValueError: ``window_size`` is not positive; the refusals of grouped-query attention.

    Source:
        OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card", 2025, arXiv:2508.10925.
        Reference: transformers 5.23.0, models/gpt_oss/modeling_gpt_oss.py.
        Deviations: no YaRN scaling of the frequencies.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        window_size: int | None = None,
        bias: bool = True,
        rotary_base: float | None = 150000.0,
        dropout: float = 0.0,
    ) -> None:
        if window_size is not None:
            check_positive("SinkAttention", window_size=window_size)
        super().__init__(
            embed_dim,
            num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            bias=bias,
            output_bias=bias,
            rotary_base=rotary_base,
            dropout=dropout,
        )
        self.window_size = window_size
        self.sinks = nn.Parameter(torch.empty(num_heads))
        nn.init.normal_(self.sinks, std=0.02)

    def reset_parameters(self) -> None:
        """Draw weights and sinks from N(0, 0.02^2), biases zero."""
        super().reset_parameters()
        nn.init.normal_(self.sinks, std=0.02)

    def attention(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, num_heads, L, L)``; each row sums to one minus the weight of the sink."""
        query_nhld, key_ngld, _ = self.project(query_nlc)
        visible = visibility(query_nhld, key_ngld, mask_nm=mask_nl, causal=True, window_size=self.window_size)
        return {"attention": weights_with_sink(query_nhld, key_ngld, sink_h=self.sinks, visible=visible)}

    def read(self, query_nhld: Tensor, key_ngmd: Tensor, value_ngmd: Tensor, mask_nm: Tensor | None) -> Tensor:
        """Return what each query head reads, ``(N, H, L, d)``; long inputs in blocks of one window."""
        read = functools.partial(attend_with_sink, sink_h=self.sinks)
        length, dropout = query_nhld.shape[2], self.dropout if self.training else 0.0
        window = self.window_size if self.window_size is not None and self.window_size < length else None
        if window is not None and length > 2 * window:
            return banded_attend(query_nhld, key_ngmd, value_ngmd, window, mask_nl=mask_nm, dropout=dropout, read=read)
        if window is None:
            read = functools.partial(read, dropout=dropout)
            return attend_causal(query_nhld, key_ngmd, value_ngmd, mask_nm=mask_nm, read=read)
        visible = visibility(query_nhld, key_ngmd, mask_nm=mask_nm, causal=True, window_size=window)
        return read(query_nhld, key_ngmd, value_ngmd, visible=visible, dropout=dropout)
