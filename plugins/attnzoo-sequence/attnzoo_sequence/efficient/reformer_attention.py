"""Reformer attention: tokens attend within buckets that locality-sensitive hashing puts similar ones into."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.attend import merge_heads, split_heads
from attnzoo_sequence.ops.checks import check_heads, check_positive
from attnzoo_sequence.ops.masks import check_key_mask

_SELF = -1e5  # a token attends to itself only if there is nothing else
_HIDDEN = -1e9


class ReformerAttention(nn.Module):
    """Let each token attend to those that hash to its bucket, in time near linear in the length.

    Queries are the keys before they are scaled to unit length. Each round hashes by ``argmax [x R; -x R]``, sorts
    tokens by bucket, cuts them in chunks, and attends within a chunk and the one before; rounds are summed, weighted by
    their normalisers: ``out = out_proj(sum_r softmax_r(logsumexp_r) out_r)``.

    Args:
        embed_dim: Width of the tokens.
        num_heads: Number of heads.
        chunk_size: Tokens of a chunk.
        num_buckets: Buckets of a round; even.
        num_hashes: Rounds.
        causal: Whether a query sees only keys up to its own position.

    Shape:
        Query ``(N, L, C)``, mask ``(N, L)`` with True = may attend, to ``(N, L, C)``; any L from 1 on. Hidden tokens
        give zeros; a token attends to itself only where its chunks show it nothing else.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, ``num_buckets`` is odd, or a size is not positive.

    Source:
        Kitaev et al., "Reformer: The Efficient Transformer", ICLR 2020, arXiv:2001.04451, section 2.
        Authors' code: github.com/google/trax @ 7c189c2, layers/research/efficient_attention.py: unit keys, no further
        scale.
        Deviations: the random rotations are a buffer of the weights that changes only when ``redraw`` is called (the
        authors draw them in every call), so forward is a function of its inputs.
    """

    rotations: Tensor

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 8,
        chunk_size: int = 64,
        num_buckets: int = 64,
        num_hashes: int = 1,
        causal: bool = False,
    ) -> None:
        super().__init__()
        check_heads("ReformerAttention", embed_dim, num_heads)
        check_positive("ReformerAttention", chunk_size=chunk_size, num_buckets=num_buckets, num_hashes=num_hashes)
        if num_buckets % 2:
            message = f"ReformerAttention: num_buckets={num_buckets} is odd; take an even number"
            raise ValueError(message)
        self.num_heads = num_heads
        self.chunk_size = chunk_size
        self.num_buckets = num_buckets
        self.causal = causal
        self.query_key = nn.Linear(embed_dim, embed_dim, bias=False)
        self.value = nn.Linear(embed_dim, embed_dim, bias=False)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=False)
        head_dim = embed_dim // num_heads
        self.register_buffer("rotations", torch.empty(num_heads, num_hashes, head_dim, num_buckets // 2))
        self.redraw()

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does, and new rotations."""
        reset_layers(self)
        self.redraw()

    def redraw(self, generator: torch.Generator | None = None) -> None:
        """Draw new random rotations, as the authors do in every call."""
        with torch.no_grad():
            self.rotations.normal_(generator=generator)

    def buckets(self, query_nhld: Tensor) -> Tensor:
        """Return the bucket of each token in each round, ``(n, h, r, l)``."""
        turned = query_nhld.detach()[:, :, None] @ self.rotations.to(query_nhld.dtype)
        return torch.cat([turned, -turned], dim=-1).argmax(dim=-1)

    def _project(self, query_nlc: Tensor, mask_nl: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return queries, unit keys, values, the sorted positions ``(n, h, r, l')`` and which positions are visible.

        The order is filled up to whole chunks with the position ``l``, which is never visible; hidden tokens come last.
        """
        query, value = (split_heads(p(query_nlc), self.num_heads) for p in (self.query_key, self.value))
        key = query / query.square().sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
        bucket = self.buckets(query)
        check_key_mask(mask_nl, query_nlc)
        visible = bucket.new_ones(query_nlc.shape[:2], dtype=torch.bool) if mask_nl is None else mask_nl
        bucket = bucket.masked_fill(~visible[:, None, None, :], self.num_buckets)
        order, length = bucket.sort(dim=-1, stable=True).indices, query_nlc.shape[1]
        order = F.pad(order, (0, -length % self.chunk_size), value=length)
        return query, key, value, order, F.pad(visible, (0, 1))

    def _penalty(self, rows: Tensor, columns: Tensor, seen: Tensor) -> Tensor:
        """Return what is added to a score: zero, or a large negative number for the token itself and hidden ones."""
        hidden = ~seen | (columns > rows) if self.causal else ~seen
        same = rows == columns
        zero = torch.zeros(same.shape, dtype=torch.float32, device=same.device)
        return zero.masked_fill(hidden, _HIDDEN).masked_fill(same, _SELF)

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return the attended tokens, ``(n, l, c)``."""
        query, key, value, order, visible = self._project(query_nlc, mask_nl)
        query_c, key_c, value_c = (_chunked(x, order, self.chunk_size) for x in (query, key, value))
        key_c, value_c = _with_previous(key_c), _with_previous(value_c)
        rows = order.unflatten(-1, (-1, self.chunk_size))
        columns = _with_previous(rows)
        seen = visible[:, None, None].expand(*order.shape[:3], -1).gather(3, columns.flatten(3)).view(columns.shape)
        score = query_c @ key_c.transpose(-2, -1)
        score = score + self._penalty(rows[..., None], columns[..., None, :], seen[..., None, :])
        total = score.logsumexp(dim=-1, keepdim=True)
        out = (score - total).exp().to(value.dtype) @ value_c
        back = order.argsort(dim=-1)[..., : query_nlc.shape[1], None]
        out = out.flatten(3, 4).gather(3, back.expand(*back.shape[:-1], out.shape[-1]))
        share = total.flatten(3, 4).gather(3, back).softmax(dim=2)
        result: Tensor = self.out_proj(merge_heads((out * share.to(out.dtype)).sum(dim=2)))
        return result if mask_nl is None else result * mask_nl[..., None]

    def attention(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return the weights of all rounds together, ``(n, h, l, l)``, zero outside the chunks."""
        query, key, value, order, visible = self._project(query_nlc, mask_nl)
        length = query_nlc.shape[1]
        chunk = order.argsort(dim=-1)[..., :length] // self.chunk_size
        back = (chunk[..., :, None] - chunk[..., None, :]) % (order.shape[-1] // self.chunk_size)
        position = torch.arange(length, device=query.device)
        penalty = self._penalty(position[:, None], position, visible[:, None, None, None, :length])
        score = (query @ key.transpose(-2, -1))[:, :, None] + penalty
        score = score.masked_fill(back > 1, -torch.inf)
        total = score.logsumexp(dim=-1, keepdim=True)
        weight = ((score - total).exp() * total.softmax(dim=2)).sum(dim=2).to(value.dtype)
        return {"attention": weight * visible[:, None, :length, None]}


def _chunked(x_nhld: Tensor, order_nhrl: Tensor, size: int) -> Tensor:
    """Return the tokens in sorted order, cut in chunks: ``(n, h, r, chunks, size, d)``; the filling is zero."""
    x = F.pad(x_nhld, (0, 0, 0, 1))[:, :, None].expand(-1, -1, order_nhrl.shape[2], -1, -1)
    index = order_nhrl[..., None].expand(*order_nhrl.shape, x.shape[-1])
    chunks: Tensor = x.gather(3, index).unflatten(3, (-1, size))
    return chunks


def _with_previous(x: Tensor) -> Tensor:
    """Return each chunk joined with the one before it, in a ring."""
    return torch.cat([x, x.roll(1, dims=3)], dim=4)
