"""Longformer attention: a band of near keys, and a few global tokens that see and are seen by all."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.attend import attend, attention_weights, merge_heads, split_heads
from attnzoo_sequence.ops.checks import check_heads, check_positive
from attnzoo_sequence.ops.masks import check_key_mask

_SMALLEST_BLOCK = 32


class LongformerAttention(nn.Module):
    """Let each token attend to its neighbours and to the global tokens, and each global token to all.

    An ordinary query sees the keys within ``window_size / 2`` and the global ones, in one softmax. A global query sees
    all keys and uses projections of its own (``query_global``, ``key_global``, ``value_global``).

    Args:
        embed_dim: Width of the tokens.
        num_heads: Number of heads.
        window_size: Neighbours that a token sees, half of them on each side, itself not counted; even.
        max_global: Most global tokens in one sequence. It fixes the size of the global part, as compiled graphs need;
        None:
            the data decide (compiled: the whole length is reserved).

    Shape:
        Query ``(N, L, C)``, global mask ``(N, L)`` with True = global token, mask ``(N, L)`` with True = may attend, to
        ``(N, L, C)``. Hidden tokens give zeros; there is no output projection.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, ``window_size`` is odd or below 2, or (in forward) a
        sequence
            has more than ``max_global`` global tokens.

    Source:
        Beltagy et al., "Longformer: The Long-Document Transformer", 2020, arXiv:2004.05150, section 3.
        Authors' code: github.com/allenai/longformer @ caefee6, longformer/longformer.py.
        Deviations: ``window_size`` counts both sides, as in transformers (the authors: one side); any length.
    """

    def __init__(
        self, embed_dim: int, *, num_heads: int = 12, window_size: int = 512, max_global: int | None = None
    ) -> None:
        super().__init__()
        check_heads("LongformerAttention", embed_dim, num_heads)
        check_positive("LongformerAttention", max_global=max_global)
        if window_size < 2 or window_size % 2:
            message = f"LongformerAttention: window_size={window_size} is not an even number from 2 on"
            raise ValueError(message)
        self.num_heads = num_heads
        self.side = window_size // 2
        self.max_global = max_global
        self.query, self.key, self.value = (nn.Linear(embed_dim, embed_dim) for _ in range(3))
        self.query_global, self.key_global, self.value_global = (nn.Linear(embed_dim, embed_dim) for _ in range(3))

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def _global_tokens(self, global_nl: Tensor) -> tuple[Tensor, Tensor]:
        """Return the positions of the global tokens ``(n, g)``, and which entries are real."""
        length = global_nl.shape[1]
        size = length if self.max_global is None else min(self.max_global, length)
        if not torch.compiler.is_compiling() and global_nl.numel():
            most = int(global_nl.sum(dim=1).max()) if global_nl.device.type != "meta" else size
            if self.max_global is not None and most > size:
                message = f"LongformerAttention: {most} global tokens are more than max_global={self.max_global}"
                raise ValueError(message)
            size = size if self.max_global is not None else most
        index_ng = global_nl.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :size]
        return index_ng, global_nl.gather(1, index_ng)

    def _local(self, x_nlc: Tensor, keep_nl: Tensor, global_nl: Tensor, index_ng: Tensor, real_ng: Tensor) -> Tensor:
        """Return the output of the band and the global keys for every query, ``(n, l, c)``."""
        length, block, side = x_nlc.shape[1], max(self.side, _SMALLEST_BLOCK), self.side
        extra = -length % block
        query, key, value = (split_heads(p(x_nlc), self.num_heads) for p in (self.query, self.key, self.value))
        near_nml = F.pad(keep_nl & ~global_nl, (side, side + extra)).unfold(1, block + 2 * side, block)
        offset = torch.arange(block + 2 * side, device=x_nlc.device) - torch.arange(block, device=x_nlc.device)[:, None]
        band = (offset >= 0) & (offset <= 2 * side)
        seen = torch.cat([near_nml[:, :, None] & band, _per_block(real_ng, near_nml.shape[1], block)], dim=-1)
        query_nthbd = F.pad(query, (0, 0, 0, extra)).unflatten(2, (-1, block)).transpose(1, 2)
        keys, values = (self._blocks(x, block, extra, index_ng) for x in (key, value))
        out = attend(query_nthbd.flatten(0, 1), keys, values, visible=seen.flatten(0, 1)[:, None])
        out_nthbd: Tensor = out.unflatten(0, (x_nlc.shape[0], -1))
        return out_nthbd.transpose(2, 3).flatten(3).flatten(1, 2)[:, :length]

    def _blocks(self, x_nhld: Tensor, block: int, extra: int, index_ng: Tensor) -> Tensor:
        """Return, for each block of queries, its near tokens and the global ones: ``(n t, h, w + g, d)``."""
        window = block + 2 * self.side
        near = F.pad(x_nhld, (0, 0, self.side, self.side + extra)).unfold(2, window, block)
        near_nthwd = near.permute(0, 2, 1, 4, 3)
        chosen = _take_tokens(x_nhld, index_ng)[:, None].expand(-1, near_nthwd.shape[1], -1, -1, -1)
        return torch.cat([near_nthwd, chosen], dim=3).flatten(0, 1)

    def forward(self, query_nlc: Tensor, global_mask_nl: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return the attended tokens, ``(n, l, c)``."""
        keep_nl, global_nl = _keep_and_global(query_nlc, global_mask_nl, mask_nl)
        if not query_nlc.numel():
            return torch.zeros_like(query_nlc)
        index_ng, real_ng = self._global_tokens(global_nl)
        out_nlc = self._local(query_nlc, keep_nl, global_nl, index_ng, real_ng)
        index_ngc = index_ng[..., None].expand(-1, -1, query_nlc.shape[2])
        query, key, value = (
            split_heads(projection(x), self.num_heads)
            for projection, x in (
                (self.query_global, query_nlc.gather(1, index_ngc)),
                (self.key_global, query_nlc),
                (self.value_global, query_nlc),
            )
        )
        global_ngc = merge_heads(attend(query, key, value, visible=keep_nl[:, None, None, :]))
        global_ngc = torch.where(real_ng[..., None], global_ngc, out_nlc.gather(1, index_ngc))
        return out_nlc.scatter(1, index_ngc, global_ngc) * keep_nl[..., None]

    def attention(self, query_nlc: Tensor, global_mask_nl: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return the weights of every query, ``(n, h, l, l)``, those of global queries from their own projections."""
        keep_nl, global_nl = _keep_and_global(query_nlc, global_mask_nl, mask_nl)
        position = torch.arange(query_nlc.shape[1], device=query_nlc.device)
        band = (position[:, None] - position).abs() <= self.side
        visible = keep_nl[:, None, :] & (band | global_nl[:, None, :])
        query, key, query_global, key_global = (
            split_heads(projection(query_nlc), self.num_heads)
            for projection in (self.query, self.key, self.query_global, self.key_global)
        )
        local = attention_weights(query, key, visible=visible[:, None])
        overall = attention_weights(query_global, key_global, visible=keep_nl[:, None, None, :])
        weights = torch.where(global_nl[:, None, :, None], overall, local)
        return {"attention": weights * keep_nl[:, None, :, None]}


def _keep_and_global(query_nlc: Tensor, global_mask_nl: Tensor, mask_nl: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return which tokens may be attended, and which of them are global."""
    for mask in (global_mask_nl, mask_nl):
        check_key_mask(mask, query_nlc)
    global_mask_nl = global_mask_nl.expand(query_nlc.shape[:2])
    keep_nl = torch.ones_like(global_mask_nl) if mask_nl is None else mask_nl.expand(query_nlc.shape[:2])
    return keep_nl, global_mask_nl & keep_nl


def _take_tokens(x_nhld: Tensor, index_ng: Tensor) -> Tensor:
    """Return the tokens at ``index_ng`` of each sample, ``(n, h, g, d)``."""
    return x_nhld.gather(2, index_ng[:, None, :, None].expand(-1, x_nhld.shape[1], -1, x_nhld.shape[3]))


def _per_block(real_ng: Tensor, blocks: int, block: int) -> Tensor:
    return real_ng[:, None, None, :].expand(-1, blocks, block, -1)
