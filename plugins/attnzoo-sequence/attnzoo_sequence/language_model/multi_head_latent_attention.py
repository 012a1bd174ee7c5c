"""Multi-head latent attention: keys and values of all heads kept as one small vector a token."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import affine
from attnzoo_sequence.ops.attend import attend_masked, attention_weights, merge_heads, split_heads, visibility
from attnzoo_sequence.ops.checks import check_choice, check_positive
from attnzoo_sequence.ops.norm import RMSNorm
from attnzoo_sequence.ops.rotary import rotary_tables, rotate
from attnzoo_sequence.ops.uneven import attend_uneven
from attnzoo_sequence.ops.yarn import yarn_scale, yarn_tables


class MultiHeadLatentAttention(nn.Module):
    """Attend with keys and values that are rebuilt from one small latent vector a token.

    ``[c | k_r] = kv_down x``; ``[k_h | v_h] = kv_up RMSNorm(c)``; ``q = query_up RMSNorm(query_down x)``;
    ``score_h = (q_h . k_h + rotate(q_hr) . rotate(k_r)) / sqrt(nope + rope)``; ``out = out_proj(concat_h
    softmax(score_h) v_h)``. ``k_r`` is one head that all queries read. The absorbed form moves ``kv_up`` to the side of
    the queries and outputs, so that the latents themselves are attended to: the same numbers, with ``kv_rank +
    rope_dim`` numbers a token to cache.

    Args:
        embed_dim: Width of the tokens.
        num_heads: Number of heads.
        query_rank: Width of the latent of the queries; None: queries are projected directly.
        kv_rank: Width of the latent ``c``.
        head_dims: Channels of a head: without position, with position, of the value.
        rope_base: Base of the rotation frequencies.
        rope_layout: Which channels form a pair: interleaved (DeepSeek's checkpoints) or half.
        yarn: YaRN scaling of the rotation: factor, trained length, beta fast, beta slow, mscale, mscale of all
        dimensions
            (DeepSeek-V3: 40, 4096, 32, 1, 1, 1); None: none.
        eps: Added to the mean square in the norms.
        bias: Whether the down and output projections have biases.
        causal: Whether a query sees only keys up to its own position.
        absorbed: Whether forward uses the absorbed form.

    Shape:
        Query ``(N, L, C)``, mask ``(N, L)`` with True = may attend, to ``(N, L, C)``. ``decode`` takes new tokens and a
        cache of ``kv_rank + rope_dim`` numbers for each token before them.

    Raises:
        ValueError: a size is not positive, the rotated part is odd, or ``rope_layout`` is unknown.

    Source:
        DeepSeek-AI, "DeepSeek-V2", 2024, arXiv:2405.04434, eq. 9-19 and appendix C; DeepSeek-V3, arXiv:2412.19437.
        Authors' code: github.com/deepseek-ai/DeepSeek-V3 @ 9b4e978, inference/model.py.
        Deviations: none known.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 8,
        query_rank: int | None = None,
        kv_rank: int = 512,
        head_dims: tuple[int, int, int] = (128, 64, 128),
        rope_base: float = 10000.0,
        rope_layout: Literal["interleaved", "half"] = "interleaved",
        yarn: tuple[float, float, float, float, float, float] | None = None,
        eps: float = 1e-6,
        bias: bool = False,
        causal: bool = True,
        absorbed: bool = False,
    ) -> None:
        super().__init__()
        check_positive("MultiHeadLatentAttention", embed_dim=embed_dim, num_heads=num_heads, query_rank=query_rank)
        check_positive("MultiHeadLatentAttention", kv_rank=kv_rank, rope_base=rope_base, eps=eps)
        check_choice("MultiHeadLatentAttention", "rope_layout", rope_layout, ("interleaved", "half"))
        self.nope_dim, self.rope_dim, self.value_dim = _head_dims(head_dims)
        self.num_heads = num_heads
        self.rope_base = rope_base
        self.yarn = yarn
        self.scale = (self.nope_dim + self.rope_dim) ** -0.5 * (yarn_scale(yarn[0], yarn[5]) ** 2 if yarn else 1.0)
        self.rope_layout: Literal["interleaved", "half"] = rope_layout
        self.causal = causal
        self.absorbed = absorbed
        self._add_projections(embed_dim, query_rank, kv_rank, eps, bias)
        self.reset_parameters()

    def _add_projections(self, embed_dim: int, query_rank: int | None, kv_rank: int, eps: float, bias: bool) -> None:
        query_dim, heads = self.num_heads * (self.nope_dim + self.rope_dim), self.num_heads
        self.query_down: nn.Module = nn.Identity()
        if query_rank is not None:
            self.query_down = nn.Sequential(nn.Linear(embed_dim, query_rank, bias=bias), RMSNorm(query_rank, eps=eps))
        self.query_up = nn.Linear(embed_dim if query_rank is None else query_rank, query_dim, bias=False)
        self.kv_down = nn.Linear(embed_dim, kv_rank + self.rope_dim, bias=bias)
        self.kv_norm = RMSNorm(kv_rank, eps=eps)
        self.kv_up = nn.Linear(kv_rank, heads * (self.nope_dim + self.value_dim), bias=False)
        self.out_proj = nn.Linear(heads * self.value_dim, embed_dim, bias=bias)

    def reset_parameters(self) -> None:
        """Draw the projections from N(0, 0.02^2), biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, RMSNorm):
                module.reset_parameters()

    def _queries_and_latents(self, x_nlc: Tensor, offset: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return queries without and with position, latents ``(n, l, r)`` and position keys ``(n, 1, l, p)``."""
        query = split_heads(self.query_up(self.query_down(x_nlc)), self.num_heads)
        nope, turned = query.split([self.nope_dim, self.rope_dim], dim=-1)
        latent_nlr, shared_nlp = self.kv_down(x_nlc).split([self.kv_norm.normalized_shape[0], self.rope_dim], dim=-1)
        if self.yarn is None:
            cos, sin = rotary_tables(turned, rotary_dim=self.rope_dim, base=self.rope_base, offset=offset)
        else:
            cos, sin = yarn_tables(turned, base=self.rope_base, yarn=self.yarn, offset=offset)
        turned, shared = (rotate(t, cos, sin, self.rope_layout) for t in (turned, shared_nlp[:, None]))
        return nope, turned, self.kv_norm(latent_nlr), shared

    def _expand(self, x_nlc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of all heads: the plain form."""
        nope, turned, latent_nlr, shared = self._queries_and_latents(x_nlc)
        key, value = split_heads(self.kv_up(latent_nlr), self.num_heads).split([self.nope_dim, self.value_dim], dim=-1)
        shared = shared.expand(-1, self.num_heads, -1, -1)
        return torch.cat([nope, turned], dim=-1), torch.cat([key, shared], dim=-1), value

    def _read(self, query: Tensor, key: Tensor, value: Tensor, mask_nm: Tensor | None) -> Tensor:
        read = partial(attend_uneven, scale=self.scale)
        return attend_masked(query, key, value, causal=self.causal, mask_nm=mask_nm, read=read)

    def _attend_absorbed(self, parts: tuple[Tensor, ...], mask_nm: Tensor | None = None) -> Tensor:
        """Return the heads' outputs without forming their keys and values: one key head, the latents."""
        nope, turned, latent_nlr, shared = parts
        up, bias = affine(self.kv_up)
        if bias is not None:  # as the weight of a latent that is 1: so it stays hidden with its token
            up, latent_nlr = torch.cat([up, bias[:, None]], dim=1), F.pad(latent_nlr, (0, 1), value=1.0)
        up_hdr = up.unflatten(0, (self.num_heads, -1))
        key_up, value_up = up_hdr.split([self.nope_dim, self.value_dim], dim=1)
        query = torch.cat([nope @ key_up, turned], dim=-1)
        key = torch.cat([latent_nlr[:, None], shared], dim=-1)
        out: Tensor = self._read(query, key, latent_nlr[:, None], mask_nm) @ value_up.transpose(-2, -1)
        return out

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return the attended tokens, ``(n, l, c)``."""
        if self.absorbed:
            out_nhle = self._attend_absorbed(self._queries_and_latents(query_nlc), mask_nl)
        else:
            out_nhle = self._read(*self._expand(query_nlc), mask_nl)
        out: Tensor = self.out_proj(merge_heads(out_nhle))
        return out

    def decode(self, query_nlc: Tensor, cache_nsr: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the outputs of new tokens after those of a cache, and the cache with the new ones at its end.

        The cache ``(n, s, kv_rank + rope_dim)`` holds the normed latent and the turned position key of each token.
        Start with none. Fed in any pieces the outputs are those of one pass; the absorbed form reads the cache as it
        is.
        """
        if not self.causal:
            message = (
                "MultiHeadLatentAttention: decode with causal=False, expected True; build it causal or use forward"
            )
            raise ValueError(message)
        past = 0 if cache_nsr is None else cache_nsr.shape[1]
        nope, turned, latent_nlr, shared = self._queries_and_latents(query_nlc, past)
        grown_nmr = torch.cat([latent_nlr, shared[:, 0]], dim=-1)
        if cache_nsr is not None:
            grown_nmr = torch.cat([cache_nsr, grown_nmr], dim=1)
        latent_nmr, shared_nmp = grown_nmr.split([latent_nlr.shape[-1], self.rope_dim], dim=-1)
        shared = shared_nmp[:, None]
        out_nhle = self._attend_absorbed((nope, turned, latent_nmr, shared))
        return self.out_proj(merge_heads(out_nhle)), grown_nmr

    def attention(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return the weights, ``(n, h, l, l)``."""
        query, key, _ = self._expand(query_nlc)
        visible = visibility(query, key, mask_nm=mask_nl, causal=self.causal)
        return {"attention": attention_weights(query, key, visible=visible, scale=self.scale)}


def _head_dims(head_dims: Sequence[int]) -> tuple[int, int, int]:
    """Return the three sizes, or refuse them."""
    if not isinstance(head_dims, Sequence) or len(head_dims) != 3 or min(head_dims) < 1 or head_dims[1] % 2:
        message = (
            f"MultiHeadLatentAttention: head_dims={head_dims!r}, expected three positive numbers"
            " (without position, with position, value), the second even"
        )
        raise ValueError(message)
    return head_dims[0], head_dims[1], head_dims[2]
