"""Pooling by multihead attention of the Set Transformer."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.checks import check_heads, check_positive
from attnzoo_sequence.pooling.mab import MAB


class PMA(nn.Module):
    """Pool a set into a few vectors: learned seeds attend to it.

    ``out = MAB(seeds, x)``

    Args:
        embed_dim: Width of the input and output.
        num_heads: Number of heads.
        num_seeds: Number of pooled vectors.
        norm: Whether LayerNorm follows each sum.

    Shape:
        ``(N, M, C)``, mask ``(N, M)`` with True = element, to ``(N, num_seeds, C)``.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, or ``num_seeds`` is not positive.

    Source:
        Lee et al., "Set Transformer", ICML 2019, arXiv:1810.00825, eq. 11.
        Authors' code: github.com/juho-lee/set_transformer @ 73432c6, modules.py: no feed-forward layer before the
        attention, unlike the paper. Deviations: a mask.
    """

    def __init__(self, embed_dim: int, *, num_heads: int = 4, num_seeds: int = 1, norm: bool = False) -> None:
        super().__init__()
        check_heads("PMA", embed_dim, num_heads)
        check_positive("PMA", num_seeds=num_seeds)
        self.seeds = nn.Parameter(torch.empty(1, num_seeds, embed_dim))
        nn.init.xavier_uniform_(self.seeds)
        self.mab = MAB(embed_dim, num_heads=num_heads, norm=norm)

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        nn.init.xavier_uniform_(self.seeds)

    def forward(self, x_nmc: Tensor, mask_nm: Tensor | None = None) -> Tensor:
        """Return the pooled vectors, ``(n, s, c)``."""
        out: Tensor = self.mab(self.seeds.expand(x_nmc.shape[0], -1, -1), x_nmc, mask_nm)
        return out

    def attention(self, x_nmc: Tensor, mask_nm: Tensor | None = None) -> dict[str, Tensor]:
        """Return the weights of the seeds over the set, ``(n, h, s, m)``."""
        return self.mab.attention(self.seeds.expand(x_nmc.shape[0], -1, -1), x_nmc, mask_nm)
