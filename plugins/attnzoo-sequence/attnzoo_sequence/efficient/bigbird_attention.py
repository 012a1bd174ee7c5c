"""BigBird attention: blocks of tokens see their neighbours, the ends of the sequence, and a few random blocks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_sequence.ops.attend import attend, attention_weights, merge_heads, split_heads
from attnzoo_sequence.ops.checks import check_heads, check_positive
from attnzoo_sequence.ops.masks import check_key_mask


class BigBirdAttention(nn.Module):
    """Let blocks of tokens attend to their neighbours, to the first and last block, and to a few random blocks.

    The sequence is cut in blocks. The first and the last block see all keys. Every other block sees itself, the blocks
    on both sides, the first, the last, and ``num_random`` others, each once, in one softmax. The random blocks of each
    head follow from ``seed`` and the number of blocks alone: they are the same in training and evaluation.

    Args:
        embed_dim: Width of the tokens.
        num_heads: Number of heads.
        block_size: Tokens of a block.
        num_random: Random blocks of a block.
        seed: Chooses the random blocks; the authors use the index of the layer.
        bias: Whether query, key and value projections have biases.

    Shape:
        Query ``(N, L, C)``, mask ``(N, L)`` with True = may attend, to ``(N, L, C)``; any L from 1 on. A query that
        sees no key gives zeros; there is no output projection.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, ``block_size`` is not positive, or ``num_random`` is
        negative.

    Source:
        Zaheer et al., "Big Bird: Transformers for Longer Sequences", NeurIPS 2020, arXiv:2007.14062, section 2.
        Authors' code: github.com/google-research/bigbird @ 5e7d375, core/attention.py.
        Deviations: the random blocks come from another generator, so they are not those of a released model; a block
        never counts twice (transformers counts block 0 several times in evaluation).
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 12,
        block_size: int = 64,
        num_random: int = 3,
        seed: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_heads("BigBirdAttention", embed_dim, num_heads)
        check_positive("BigBirdAttention", block_size=block_size)
        if num_random < 0:
            message = f"BigBirdAttention: num_random={num_random} is negative; take 0 for no random blocks"
            raise ValueError(message)
        self.num_heads = num_heads
        self.block_size = block_size
        self.num_random = num_random
        self.seed = seed
        self.query, self.key, self.value = (nn.Linear(embed_dim, embed_dim, bias=bias) for _ in range(3))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights from a normal distribution with standard deviation 0.02, cut at two, biases zero."""
        for linear in (self.query, self.key, self.value):
            nn.init.trunc_normal_(linear.weight, std=0.02, a=-0.04, b=0.04)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def plan(self, blocks: int, device: torch.device) -> Tensor:
        """Return the blocks that the inner blocks see, ``(h, blocks - 2, 5 + random)``; -1 stands for none."""
        row = torch.arange(1, blocks - 1, device=device)[:, None]
        column = torch.arange(blocks, device=device)
        near = ((column - row).abs() <= 1) | (column == 0) | (column == blocks - 1)
        head = torch.arange(self.num_heads, device=device)[:, None, None]
        priority = _scramble(self.seed * 1_000_003 + head * 65_537 + row * 8_191 + column).masked_fill(near, -1)
        best, index = priority.topk(min(self.num_random, blocks), dim=-1)
        chosen = index.masked_fill(best < 0, -1)
        fixed = torch.cat([torch.zeros_like(row), row - 1, row, row + 1, torch.full_like(row, blocks - 1)], dim=1)
        again = (fixed[:, :, None] == fixed[:, None, :]).tril(-1).any(dim=-1)
        fixed = fixed.masked_fill(again, -1).expand(self.num_heads, -1, -1)
        return torch.cat([fixed, chosen], dim=-1)

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return the attended tokens, ``(n, l, c)``."""
        length, size = query_nlc.shape[1], self.block_size
        query, key, value = (split_heads(p(query_nlc), self.num_heads) for p in (self.query, self.key, self.value))
        check_key_mask(mask_nl, query_nlc)
        keep = None if mask_nl is None else mask_nl[:, None, None, :]
        if length <= 2 * size:
            return merge_heads(attend(query, key, value, visible=keep))
        last = (length - 1) // size * size
        first = attend(query[:, :, :size], key, value, visible=keep)
        final = attend(query[:, :, last:], key, value, visible=keep)
        inner = self._inner(query[:, :, size:last], key, value, mask_nl)
        return merge_heads(torch.cat([first, inner, final], dim=2))

    def _inner(self, query: Tensor, key: Tensor, value: Tensor, mask_nl: Tensor | None) -> Tensor:
        """Return the output of all blocks but the first and last, ``(n, h, l', d)``."""
        batch, heads, length, size = *key.shape[:3], self.block_size
        extra = -length % size
        plan_hts = self.plan((length + extra) // size, key.device)
        row = plan_hts.clamp(min=0) + torch.arange(heads, device=key.device)[:, None, None] * ((length + extra) // size)
        keys, values = (_take_blocks(F.pad(x, (0, 0, 0, extra)), row, size) for x in (key, value))
        keep_nl = key.new_ones(batch, length, dtype=torch.bool) if mask_nl is None else mask_nl
        keep_nts = F.pad(keep_nl, (0, extra)).unflatten(1, (-1, size))
        seen = keep_nts[:, plan_hts.clamp(min=0)] & (plan_hts >= 0)[..., None]
        query = query.unflatten(2, (-1, size)).flatten(1, 2)
        out = attend(query, keys, values, visible=seen.flatten(1, 2).flatten(2)[:, :, None])
        by_heads: Tensor = out.unflatten(1, (heads, -1))
        return by_heads.flatten(2, 3)

    def visible(self, length: int, device: torch.device) -> Tensor:
        """Return which key each query may see, ``(h, l, l)``: the pattern that ``forward`` never forms."""
        blocks = -(-length // self.block_size)
        table = torch.ones(self.num_heads, blocks, blocks + 1, dtype=torch.bool, device=device)
        if blocks > 2:
            plan_hts = self.plan(blocks, device)
            inner = torch.zeros_like(table[:, 1:-1]).scatter(2, plan_hts.remainder(blocks + 1), True)
            table = torch.cat([table[:, :1], inner, table[:, -1:]], dim=1)
        block_l = torch.arange(length, device=device) // self.block_size
        return table[:, block_l][:, :, block_l]

    def attention(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return the weights, ``(n, h, l, l)``."""
        query, key = (split_heads(p(query_nlc), self.num_heads) for p in (self.query, self.key))
        visible = self.visible(query_nlc.shape[1], query_nlc.device)[None]
        check_key_mask(mask_nl, query_nlc)
        visible = visible if mask_nl is None else visible & mask_nl[:, None, None, :]
        return {"attention": attention_weights(query, key, visible=visible)}


def _take_blocks(x_nhld: Tensor, row_hts: Tensor, size: int) -> Tensor:
    """Return the blocks that ``row`` names among all blocks of all heads, ``(n, h t, s size, d)``."""
    blocks: Tensor = x_nhld.unflatten(2, (-1, size)).flatten(1, 2)
    return blocks[:, row_hts].flatten(1, 2).flatten(2, 3)


def _scramble(x: Tensor) -> Tensor:
    """Return numbers in ``[0, 2^31)`` that look random but follow from ``x`` (multiply and shift, as in MurmurHash)."""
    for factor in (0x85EBCA6B, 0xC2B2AE35):
        x = ((x ^ (x >> 15)) * factor) & 0x7FFFFFFF
    return x ^ (x >> 13)
