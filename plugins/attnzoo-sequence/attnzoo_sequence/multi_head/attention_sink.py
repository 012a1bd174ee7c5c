"""The attention operator with a learned sink for each head."""

from functools import partial

import torch
from torch import Tensor, nn

from attnzoo_sequence.ops.attend import attend_masked, visibility
from attnzoo_sequence.ops.checks import check_divides, check_positive
from attnzoo_sequence.ops.sinks import attend_with_sink, weights_with_sink


class AttentionSink(nn.Module):
    """Scaled dot-product attention in which each head may attend to nothing: to a learned score without a value.

    ``P = softmax([q_h k_g^T / sqrt(d); sink_h])``; ``y = P without its last column, times v_g``

    Args:
        num_heads: Number of query heads.
        num_kv_heads: Number of key and value heads; left out: ``num_heads``.
        causal: A query sees the keys up to its own position; the last query is aligned with the last key.

    Shape:
        query ``(N, H, L, d)``, key ``(N, G, M, d)``, value ``(N, G, M, e)`` to ``(N, H, L, e)``; ``mask`` ``(N, M)`` is
        boolean, True = may attend. A query that sees no key reads zeros.

    Raises:
        ValueError: ``num_kv_heads`` does not divide ``num_heads``.

    Source:
        OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card", 2025, arXiv:2508.10925; github.com/openai/gpt-oss @ 7b58334,
        gpt_oss/torch/model.py; the softmax with a spare score is that of Miller, "Attention Is Off By One", 2023.
        Deviations: none.
    """

    def __init__(self, num_heads: int, *, num_kv_heads: int | None = None, causal: bool = False) -> None:
        super().__init__()
        check_positive("AttentionSink", num_heads=num_heads, num_kv_heads=num_kv_heads)
        if num_kv_heads is not None:
            check_divides("AttentionSink", "num_kv_heads", num_kv_heads, "num_heads", num_heads)
        self.causal = causal
        self.sinks = nn.Parameter(torch.empty(num_heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the sinks from N(0, 0.02^2)."""
        nn.init.normal_(self.sinks, std=0.02)

    def forward(
        self, query_nhld: Tensor, key_ngmd: Tensor, value_ngmd: Tensor, mask_nm: Tensor | None = None
    ) -> Tensor:
        """Return what each head reads."""
        read = partial(attend_with_sink, sink_h=self.sinks)
        return attend_masked(query_nhld, key_ngmd, value_ngmd, causal=self.causal, mask_nm=mask_nm, read=read)

    def attention(
        self, query_nhld: Tensor, key_ngmd: Tensor, value_ngmd: Tensor, mask_nm: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, H, L, M)``; each row sums to one minus the weight of the sink."""
        visible = visibility(query_nhld, key_ngmd, mask_nm=mask_nm, causal=self.causal)
        return {"attention": weights_with_sink(query_nhld, key_ngmd, sink_h=self.sinks, visible=visible)}
