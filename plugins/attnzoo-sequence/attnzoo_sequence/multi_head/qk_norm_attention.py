"""Grouped-query attention with normed queries and keys."""

from typing import Literal

from torch import Tensor, nn

from attnzoo_sequence.multi_head.grouped_query_attention import GroupedQueryAttention
from attnzoo_sequence.ops.checks import check_choice


class QKNormAttention(GroupedQueryAttention):
    """Grouped-query attention whose queries and keys are normed before the rotation, so that scores stay bounded.

    ``head_h = softmax(rot(rms(q_h)) rot(rms(k_g))^T / sqrt(d)) v_g``

    Args:
        embed_dim: Width of the input and output.
        num_heads: Number of query heads.
        norm: ``head``: each head is normed, with one gain for all heads (Qwen3); ``projection``: all heads are normed
            together, with a gain for each channel (OLMo 2).
        num_kv_heads: Number of key and value heads; left out: ``num_heads``.
        head_dim: Width of a head; left out: ``embed_dim / num_heads``.
        bias: Whether queries, keys, values and the output have a bias.
        rotary_base: Base of the rotary frequencies; None: positions are not told.
        eps: Added to the mean square.
        dropout: Probability of dropping an attention weight in training.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``; ``mask`` ``(N, L)`` is boolean, True = may attend.

    Raises:
        ValueError: An unknown ``norm``; the refusals of grouped-query attention.

    Source:
        Henry et al., "Query-Key Normalization for Transformers", Findings of EMNLP 2020, arXiv:2010.04245; in the form
        of Qwen3 and OLMo 2: transformers 5.23.0, models/qwen3/modeling_qwen3.py, models/olmo2/modeling_olmo2.py.
        Deviations: RMS norms with gains for the paper's L2 norms and one learned scale, as all released models have it.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        norm: Literal["head", "projection"] = "head",
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = False,
        rotary_base: float | None = 10000.0,
        eps: float = 1e-6,
        dropout: float = 0.0,
    ) -> None:
        check_choice("QKNormAttention", "norm", norm, ("head", "projection"))
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
        whole = norm == "projection"
        self.query_norm = nn.RMSNorm(self.head_dim * (self.num_heads if whole else 1), eps=eps)
        self.key_norm = nn.RMSNorm(self.head_dim * (self.num_kv_heads if whole else 1), eps=eps)

    def norm_query(self, query_nlc: Tensor) -> Tensor:
        """Return the normed queries."""
        return _norm_in_pieces(query_nlc, self.query_norm)

    def norm_key(self, key_nlc: Tensor) -> Tensor:
        """Return the normed keys."""
        return _norm_in_pieces(key_nlc, self.key_norm)


def _norm_in_pieces(x_nlc: Tensor, norm: nn.RMSNorm) -> Tensor:
    """Norm pieces of the channels, each as long as the gain."""
    normed_nlc: Tensor = norm(x_nlc.unflatten(-1, (-1, norm.weight.shape[0]))).flatten(-2)
    return normed_nlc
