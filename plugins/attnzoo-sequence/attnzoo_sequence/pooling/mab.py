"""Multihead attention block of the Set Transformer."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.attend import attend, attention_weights, merge_heads, split_heads
from attnzoo_sequence.ops.checks import check_heads, check_positive
from attnzoo_sequence.ops.masks import check_key_mask


class MAB(nn.Module):
    """Let one set attend to another, then apply a feed-forward layer, both with residuals.

    ``o = q + softmax(q k^T / sqrt(embed_dim)) v;  out = o + relu(W o + b)``; ``q``, ``k``, ``v`` are projections, and
    with ``norm`` a LayerNorm follows each sum.

    Args:
        embed_dim: Width of the output.
        query_dim: Width of the first set; None: ``embed_dim``.
        key_dim: Width of the second set; None: ``embed_dim``.
        num_heads: Number of heads.
        norm: Whether LayerNorm follows each sum.

    Shape:
        Query ``(N, L, Cq)``, key ``(N, M, Ck)``, mask ``(N, M)`` with True = element, to ``(N, L, C)``. A query that
        sees no element keeps its projection.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``.

    Source:
        Lee et al., "Set Transformer", ICML 2019, arXiv:1810.00825, eq. 6-7.
        Authors' code: github.com/juho-lee/set_transformer @ 73432c6, modules.py: scores are divided by the square root
        of the full width, the residual is the projected query, there is no output projection.
        Deviations: a mask.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        query_dim: int | None = None,
        key_dim: int | None = None,
        num_heads: int = 4,
        norm: bool = False,
    ) -> None:
        super().__init__()
        check_heads("MAB", embed_dim, num_heads)
        check_positive("MAB", query_dim=query_dim, key_dim=key_dim)
        self.num_heads = num_heads
        self.scale = embed_dim**-0.5
        self.query = nn.Linear(embed_dim if query_dim is None else query_dim, embed_dim)
        self.key = nn.Linear(embed_dim if key_dim is None else key_dim, embed_dim)
        self.value = nn.Linear(embed_dim if key_dim is None else key_dim, embed_dim)
        self.feed_forward = nn.Linear(embed_dim, embed_dim)
        self.norm_attention = nn.LayerNorm(embed_dim) if norm else nn.Identity()
        self.norm_out = nn.LayerNorm(embed_dim) if norm else nn.Identity()

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, query_nlq: Tensor, key_nmk: Tensor, mask_nm: Tensor | None = None) -> Tensor:
        """Return the first set after it attended to the second, ``(n, l, c)``."""
        query = self.query(query_nlq)
        check_key_mask(mask_nm, key_nmk)
        visible = None if mask_nm is None else mask_nm[:, None, None, :]
        query_nhld, key, value = (
            split_heads(x, self.num_heads) for x in (query, self.key(key_nmk), self.value(key_nmk))
        )
        out = query + merge_heads(attend(query_nhld, key, value, visible=visible, scale=self.scale))
        out = self.norm_attention(out)
        result: Tensor = self.norm_out(out + torch.relu(self.feed_forward(out)))
        return result

    def attention(self, query_nlq: Tensor, key_nmk: Tensor, mask_nm: Tensor | None = None) -> dict[str, Tensor]:
        """Return the weights, ``(n, h, l, m)``."""
        query, key = (split_heads(x, self.num_heads) for x in (self.query(query_nlq), self.key(key_nmk)))
        check_key_mask(mask_nm, key_nmk)
        visible = None if mask_nm is None else mask_nm[:, None, None, :]
        return {"attention": attention_weights(query, key, visible=visible, scale=self.scale)}
