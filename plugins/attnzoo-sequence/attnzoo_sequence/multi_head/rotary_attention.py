"""Multi-head self-attention with rotary positions, of the whole head or a part of it."""

from functools import partial
from typing import Literal

from torch import Tensor, nn

from attnzoo_sequence.ops.attend import attend, attend_masked, attention_weights, merge_heads, visibility
from attnzoo_sequence.ops.checks import check_choice, check_heads
from attnzoo_sequence.ops.rotary import rotary_tables, rotate


class RotaryAttention(nn.Module):
    """Self-attention whose scores depend on the distance of two tokens, because queries and keys are turned by it.

    ``head_h = softmax(rot(q_h) rot(k_h)^T / sqrt(d)) v_h``; pair ``i`` at position ``p`` turns by ``p base^(-2i / r)``

    Args:
        embed_dim: Width of the input and output.
        num_heads: Number of heads.
        rotary_dim: Number of channels ``r`` of each head that turn, from the first; left out: all.
        rotary_base: Base of the frequencies.
        rotary_layout: Which channels form a pair: ``interleaved`` (2i and 2i + 1, the paper) or ``half`` (i and i +
            r/2).
        rotate_values: Turn the values too.
        causal: A query sees the keys up to its own position.
        bias: Whether queries, keys and values have a bias.
        output_bias: Whether the output has a bias.
        dropout: Probability of dropping an attention weight in training.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``; ``mask`` ``(N, L)`` is boolean, True = may attend; a fully masked row reads
        zeros.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``; ``rotary_dim`` is odd or wider than a head.

    Source:
        Su et al., "RoFormer", 2021, arXiv:2104.09864, eq. 34.
        Reference: transformers 5.23.0, models/roformer/modeling_roformer.py, models/gptj/modeling_gptj.py; N(0,
        0.02^2).
        Deviations: positions are 0, 1, ... also under a padding mask.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        rotary_dim: int | None = None,
        rotary_base: float = 10000.0,
        rotary_layout: Literal["half", "interleaved"] = "interleaved",
        rotate_values: bool = False,
        causal: bool = False,
        bias: bool = True,
        output_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads("RotaryAttention", embed_dim, num_heads)
        check_choice("RotaryAttention", "rotary_layout", rotary_layout, ("half", "interleaved"))
        head_dim = embed_dim // num_heads
        self.rotary_dim = head_dim if rotary_dim is None else rotary_dim
        if self.rotary_dim % 2 or not 0 < self.rotary_dim <= head_dim:
            message = f"RotaryAttention: rotary_dim={self.rotary_dim} must be even and at most {head_dim}, one head"
            raise ValueError(message)
        self.num_heads, self.causal, self.dropout = num_heads, causal, dropout
        self.rotary_base, self.rotary_layout, self.rotate_values = rotary_base, rotary_layout, rotate_values
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim, bias=bias)
        self.output = nn.Linear(embed_dim, embed_dim, bias=output_bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights from N(0, 0.02^2), biases zero."""
        for linear in (self.in_proj, self.output):
            nn.init.normal_(linear.weight, std=0.02)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return for each token what its heads read."""
        query_nhld, key_nhld, value_nhld = self._project(query_nlc)
        dropout = self.dropout if self.training else 0.0
        read = partial(attend, dropout=dropout)
        read_nhld = attend_masked(query_nhld, key_nhld, value_nhld, causal=self.causal, mask_nm=mask_nl, read=read)
        output_nlc: Tensor = self.output(merge_heads(read_nhld))
        return output_nlc

    def attention(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, num_heads, L, L)``."""
        query_nhld, key_nhld, _ = self._project(query_nlc)
        visible = visibility(query_nhld, key_nhld, mask_nm=mask_nl, causal=self.causal)
        return {"attention": attention_weights(query_nhld, key_nhld, visible=visible)}

    def _project(self, query_nlc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return turned queries and keys, and values, ``(N, H, L, d)``."""
        projected = self.in_proj(query_nlc).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query_nhld, key_nhld, value_nhld = projected.unbind(0)
        cos_lp, sin_lp = rotary_tables(query_nhld, rotary_dim=self.rotary_dim, base=self.rotary_base)
        query_nhld = rotate(query_nhld, cos_lp, sin_lp, self.rotary_layout)
        key_nhld = rotate(key_nhld, cos_lp, sin_lp, self.rotary_layout)
        if self.rotate_values:
            value_nhld = rotate(value_nhld, cos_lp, sin_lp, self.rotary_layout)
        return query_nhld, key_nhld, value_nhld
