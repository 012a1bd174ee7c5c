"""Self-attention with linear biases (ALiBi)."""

import math

import torch
from torch import Tensor, nn

from attnzoo_sequence.ops.attend import attend, attention_weights, merge_heads, visibility
from attnzoo_sequence.ops.checks import check_heads
from attnzoo_sequence.ops.masks import check_key_mask

_ROWS = 256


def alibi_slopes(num_heads: int) -> list[float]:
    """Return the slope of each head: ``2^(-8h/H)``, filled up from twice the power of two below where H is not one."""
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = [2.0 ** (-8.0 * head / power) for head in range(1, power + 1)]
    finer = [2.0 ** (-4.0 * head / power) for head in range(1, 2 * power + 1, 2)]
    return slopes + finer[: num_heads - power]


class AlibiAttention(nn.Module):
    """Self-attention whose scores fall with the distance, at a fixed slope for each head; there are no other positions.

    ``e_ij = q_i . k_j / sqrt(d) - m_h |i - j|``, with ``m_h = 2^(-8h/H)`` for a power of two of heads

    Args:
        embed_dim: Width of the input and output.
        num_heads: Number of heads.
        causal: A query sees the keys up to its own position, as in the paper; otherwise distances count both ways
            alike.
        bias: Whether queries, keys, values and the output have a bias.
        dropout: Probability of dropping an attention weight in training.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``; ``mask`` ``(N, L)`` is boolean, True = may attend; a fully masked row reads
        zeros.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``.

    Source:
        Press et al., "Train Short, Test Long", ICLR 2022, arXiv:2108.12409, section 3.
        Authors' code: github.com/ofirpress/attention_with_linear_biases @ 4b92f28a, fairseq/models/transformer.py.
        Deviations: the bias is made for 256 queries at a time; no ``(H, L, L)`` tensor exists.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, *, causal: bool = True, bias: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_heads("AlibiAttention", embed_dim, num_heads)
        self.num_heads, self.causal, self.dropout = num_heads, causal, dropout
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim, bias=bias)
        self.output = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.slopes: Tensor
        self.register_buffer("slopes", torch.tensor(alibi_slopes(num_heads)), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as fairseq does: Glorot's uniform rule, by 1/sqrt(2) for queries, keys and values; biases zero."""
        for weight in self.in_proj.weight.chunk(3):
            nn.init.xavier_uniform_(weight, gain=2**-0.5)
        nn.init.xavier_uniform_(self.output.weight)
        for linear in (self.in_proj, self.output):
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        self.slopes.copy_(torch.tensor(alibi_slopes(self.num_heads)))

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return for each token what its heads read."""
        query_nhld, key_nhld, value_nhld = self._project(query_nlc)
        length, dropout = query_nlc.shape[1], self.dropout if self.training else 0.0
        check_key_mask(mask_nl, key_nhld)
        rows = length if torch.compiler.is_compiling() else _ROWS
        reads = []
        for first in range(0, max(length, 1), rows):
            last = min(first + rows, length)
            keys = last if self.causal else length
            visible = None if mask_nl is None else mask_nl[:, None, None, :keys]
            query, key, value = query_nhld[:, :, first:last], key_nhld[:, :, :keys], value_nhld[:, :, :keys]
            bias = self._bias(first, last, keys)
            reads.append(attend(query, key, value, visible=visible, bias=bias, dropout=dropout))
        output_nlc: Tensor = self.output(merge_heads(torch.cat(reads, dim=2) if len(reads) > 1 else reads[0]))
        return output_nlc

    def attention(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, num_heads, L, L)`` and ``slopes`` ``(num_heads,)``."""
        query_nhld, key_nhld, _ = self._project(query_nlc)
        visible = visibility(query_nhld, key_nhld, mask_nm=mask_nl, causal=self.causal)
        bias = self._bias(0, query_nlc.shape[1], query_nlc.shape[1]).to(query_nhld.dtype)
        weight_nhlm = attention_weights(query_nhld, key_nhld, visible=visible, bias=bias)
        return {"attention": weight_nhlm, "slopes": self.slopes}

    def _project(self, query_nlc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        projected = self.in_proj(query_nlc).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query_nhld, key_nhld, value_nhld = projected.unbind(0)
        return query_nhld, key_nhld, value_nhld

    def _bias(self, first: int, last: int, keys: int) -> Tensor:
        """Return ``-slope |i - j|`` of the queries from ``first`` to ``last``, ``(heads, last - first, keys)``.

        A causal query is infinitely far from later keys.
        """
        device, dtype = self.slopes.device, torch.promote_types(self.slopes.dtype, torch.float32)
        query_l1 = torch.arange(first, last, device=device, dtype=dtype)[:, None]
        distance_lm = query_l1 - torch.arange(keys, device=device, dtype=dtype)
        if self.causal:
            distance_lm = distance_lm.masked_fill(distance_lm < 0, torch.inf)
        return -self.slopes[:, None, None] * distance_lm.abs()
