"""Self-attention with learned representations of relative positions, of Shaw, Uszkoreit and Vaswani."""

import torch
from torch import Tensor, nn

from attnzoo_sequence.ops.attend import masked_softmax, merge_heads, split_heads, visibility
from attnzoo_sequence.ops.checks import check_heads, check_positive


class ShawRelativeAttention(nn.Module):
    """Self-attention that adds to every key and every value a vector learned for its distance from the query.

    ``e_ij = q_i . (k_j + a^K_r) / sqrt(d)``, ``y_i = sum_j softmax_j(e_ij) (v_j + a^V_r)``,
    ``r = clip(j - i, -k, k) + k``

    Args:
        embed_dim: Width of the input and output.
        num_heads: Number of heads; they share the tables.
        max_relative_position: Distance ``k`` from which all share one vector.
        causal: A query sees the keys up to its own position.
        bias: Whether queries, keys, values and the output have a bias.
        dropout: Probability of dropping an attention weight in training.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``; ``mask`` ``(N, L)`` is boolean, True = may attend; a fully masked row reads
        zeros.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``; ``max_relative_position`` is not positive.

    Source:
        Shaw et al., "Self-Attention with Relative Position Representations", NAACL 2018, arXiv:1803.02155, eq. 3-5.
        Authors' code: github.com/tensorflow/tensor2tensor @ bafdc1b6, layers/common_attention.py.
        Deviations: weights of one bucket are summed before the values' table is read; no ``(L, L, d)`` tensor is made.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        max_relative_position: int = 16,
        causal: bool = False,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads("ShawRelativeAttention", embed_dim, num_heads)
        check_positive("ShawRelativeAttention", max_relative_position=max_relative_position)
        self.num_heads, self.max_relative_position, self.causal = num_heads, max_relative_position, causal
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim, bias=bias)
        self.relative_keys = nn.Embedding(2 * max_relative_position + 1, embed_dim // num_heads)
        self.relative_values = nn.Embedding(2 * max_relative_position + 1, embed_dim // num_heads)
        self.output = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise by Glorot's uniform rule, biases zero."""
        for module in (self.in_proj, self.relative_keys, self.relative_values, self.output):
            nn.init.xavier_uniform_(module.weight)
        for linear in (self.in_proj, self.output):
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return for each token what its heads read."""
        weight_nhlm, row_lm, value_nhmd = self._weigh(query_nlc, mask_nl)
        weight_nhlm = self.dropout(weight_nhlm)
        buckets = weight_nhlm.new_zeros(*weight_nhlm.shape[:3], 2 * self.max_relative_position + 1)
        bucket_nhlr = buckets.scatter_add(-1, row_lm.expand_as(weight_nhlm), weight_nhlm)
        read_nhld = weight_nhlm @ value_nhmd + bucket_nhlr @ self.relative_values.weight.to(bucket_nhlr.dtype)
        output_nlc: Tensor = self.output(merge_heads(read_nhld))
        return output_nlc

    def attention(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, num_heads, L, L)``."""
        return {"attention": self._weigh(query_nlc, mask_nl)[0]}

    def _weigh(self, query_nlc: Tensor, mask_nl: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weights, the table row of each query and key, and the values."""
        query_nlc, key_nlc, value_nlc = self.in_proj(query_nlc).chunk(3, dim=-1)
        query_nhld, key_nhmd = split_heads(query_nlc, self.num_heads), split_heads(key_nlc, self.num_heads)
        query_nhld = query_nhld * query_nhld.shape[-1] ** -0.5
        far = self.max_relative_position
        position_l = torch.arange(query_nlc.shape[1], device=query_nlc.device)
        row_lm = (position_l - position_l[:, None]).clamp(-far, far) + far
        relative_nhlr = query_nhld @ self.relative_keys.weight.to(query_nhld.dtype).T
        score_nhlm = query_nhld @ key_nhmd.transpose(-2, -1)
        score_nhlm = score_nhlm + relative_nhlr.gather(-1, row_lm.expand_as(score_nhlm))
        visible = visibility(query_nhld, key_nhmd, mask_nm=mask_nl, causal=self.causal)
        return masked_softmax(score_nhlm, visible), row_lm, split_heads(value_nlc, self.num_heads)
