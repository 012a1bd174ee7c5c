"""Differential attention: the difference of two softmax maps, which cancels what both attend to by accident."""

import math

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.attend import attend_masked, attention_weights, merge_heads, split_heads, visibility
from attnzoo_sequence.ops.checks import check_divides, check_heads
from attnzoo_sequence.ops.norm import RMSNorm
from attnzoo_sequence.ops.rotary import rotary_tables, rotate
from attnzoo_sequence.ops.uneven import attend_uneven


class DifferentialAttention(nn.Module):
    """Subtract a second softmax map from the first, so that attention to noise cancels.

    ``A = softmax(q1 k1^T / sqrt(d)) - lambda softmax(q2 k2^T / sqrt(d))``;
    ``out = out_proj(concat_h (1 - lambda_init) RMSNorm(A_h v_h))``; ``lambda = exp(lq1 . lk1) - exp(lq2 . lk2) +
    lambda_init`` and ``lambda_init = 0.8 - 0.6 exp(-0.3 depth)``. Queries and keys are rotated by their positions
    (interleaved pairs).

    Args:
        embed_dim: Width of the tokens.
        depth: Index of the layer in its model, from 0; sets ``lambda_init``.
        num_heads: Number of differential heads, half of those of a usual layer; a head has ``d = embed_dim / num_heads
        / 2``
            channels for queries and keys and ``2 d`` for values.
        num_kv_heads: Number of differential key and value heads; None: ``num_heads``.
        causal: Whether a query sees only keys up to its own position.

    Shape:
        Query ``(N, L, C)``, mask ``(N, L)`` with True = may attend, to ``(N, L, C)``.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim`` into heads of a multiple of 4, ``num_kv_heads`` does not
        divide
            ``num_heads``, or ``depth`` is negative.

    Source:
        Ye et al., "Differential Transformer", ICLR 2025, arXiv:2410.05258, eq. 1-3.
        Authors' code: github.com/microsoft/unilm @ 768a3c8, Diff-Transformer/multihead_diffattn.py.
        Deviations: with fewer key heads, head ``h`` reads both maps of key head ``h // (num_heads / num_kv_heads)``, as
        in the authors' flash file; their naive file pairs them otherwise. A query that sees no key gives zeros.
    """

    def __init__(
        self, embed_dim: int, depth: int, *, num_heads: int = 8, num_kv_heads: int | None = None, causal: bool = True
    ) -> None:
        super().__init__()
        check_heads("DifferentialAttention", embed_dim, num_heads)
        head_dim, kv_heads = embed_dim // num_heads // 2, num_heads if num_kv_heads is None else num_kv_heads
        if embed_dim // num_heads % 4:
            message = f"DifferentialAttention: embed_dim={embed_dim} over num_heads={num_heads} is not a multiple of 4"
            raise ValueError(message)
        check_divides("DifferentialAttention", "num_kv_heads", kv_heads, "num_heads", num_heads)
        if depth < 0:
            message = f"DifferentialAttention: depth={depth} is negative; layers count from 0"
            raise ValueError(message)
        self.num_heads = num_heads
        self.kv_heads = kv_heads
        self.causal = causal
        self.lambda_init = 0.8 - 0.6 * math.exp(-0.3 * depth)
        self.query = nn.Linear(embed_dim, embed_dim, bias=False)
        self.key = nn.Linear(embed_dim, 2 * kv_heads * head_dim, bias=False)
        self.value = nn.Linear(embed_dim, 2 * kv_heads * head_dim, bias=False)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=False)
        self.lambda_query = nn.Parameter(torch.empty(2, head_dim))
        self.lambda_key = nn.Parameter(torch.empty(2, head_dim))
        self.norm = RMSNorm(2 * head_dim, eps=1e-5)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Draw the vectors of lambda from N(0, 0.1^2)."""
        nn.init.normal_(self.lambda_query, std=0.1)
        nn.init.normal_(self.lambda_key, std=0.1)

    def _lambda(self) -> Tensor:
        """Return lambda, a scalar, computed in float32 at least."""
        dtype = torch.promote_types(self.lambda_query.dtype, torch.float32)
        first, second = (self.lambda_query.to(dtype) * self.lambda_key.to(dtype)).sum(dim=-1).exp().unbind()
        return first - second + self.lambda_init

    def _maps(self, query_nlc: Tensor) -> tuple[Tensor, Tensor]:
        """Return rotated queries and keys ``(n, 2 h, l, d)``, all first maps before all second ones."""
        query = split_heads(self.query(query_nlc), 2 * self.num_heads)
        key = split_heads(self.key(query_nlc), 2 * self.kv_heads)
        cos, sin = rotary_tables(query, rotary_dim=query.shape[-1], base=10000.0)
        query, key = (rotate(x, cos, sin, "interleaved") for x in (query, key))
        query, key = (x.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2) for x in (query, key))
        return query, key

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return the attended tokens, ``(n, l, c)``."""
        query, key = self._maps(query_nlc)
        value = split_heads(self.value(query_nlc), self.kv_heads)
        first, second = (
            attend_masked(q, k, value, causal=self.causal, mask_nm=mask_nl, read=attend_uneven)
            for q, k in zip(query.chunk(2, dim=1), key.chunk(2, dim=1), strict=True)
        )
        out_nhle = self.norm(first - self._lambda().to(first.dtype) * second) * (1 - self.lambda_init)
        out: Tensor = self.out_proj(merge_heads(out_nhle))
        return out

    def attention(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return the difference of the two maps, ``(n, h, l, l)``; a row sums to ``1 - lambda``."""
        query, key = self._maps(query_nlc)
        visible = visibility(query, key, mask_nm=mask_nl, causal=self.causal)
        first, second = attention_weights(query, key, visible=visible).chunk(2, dim=1)
        return {"attention": first - self._lambda().to(first.dtype) * second}
