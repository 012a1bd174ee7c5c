"""Attention pooling of tokens with a mask."""

import torch
from torch import Tensor, nn


class MaskedPool(nn.Module):
    """Average tokens by learned weights; hidden tokens get none, and a row of hidden tokens gives zeros."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        if embed_dim < 1:
            raise ValueError(f"MaskedPool: embed_dim={embed_dim}, expected at least 1")
        self.score = nn.Linear(embed_dim, 1, bias=False)

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        score_nl = self.score(query_nlc)[..., 0]
        if mask_nl is None:
            return (score_nl.softmax(-1)[..., None] * query_nlc).sum(1)
        score_nl = score_nl.masked_fill(~mask_nl, torch.finfo(score_nl.dtype).min)
        weight_nl = score_nl.softmax(-1) * mask_nl
        return (weight_nl[..., None] * query_nlc).sum(1)
