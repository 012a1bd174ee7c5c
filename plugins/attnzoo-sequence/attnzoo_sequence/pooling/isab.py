"""Induced set attention block of the Set Transformer."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.checks import check_heads, check_positive
from attnzoo_sequence.pooling.mab import MAB


class ISAB(nn.Module):
    """Let a few learned points gather from a set, and the set read from them: attention in linear time.

    ``h = MAB(points, x);  out = MAB(x, h)``

    Args:
        embed_dim: Width of the output.
        in_dim: Width of the input; None: ``embed_dim``.
        num_heads: Number of heads.
        num_points: Number of learned points.
        norm: Whether LayerNorm follows each sum.

    Shape:
        ``(N, L, Cin)``, mask ``(N, L)`` with True = element, to ``(N, L, C)``.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, or ``num_points`` is not positive.

    Source:
        Lee et al., "Set Transformer", ICML 2019, arXiv:1810.00825, eq. 9-10.
        Authors' code: github.com/juho-lee/set_transformer @ 73432c6, modules.py. Deviations: a mask.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        in_dim: int | None = None,
        num_heads: int = 4,
        num_points: int = 32,
        norm: bool = False,
    ) -> None:
        super().__init__()
        check_heads("ISAB", embed_dim, num_heads)
        check_positive("ISAB", num_points=num_points, in_dim=in_dim)
        self.points = nn.Parameter(torch.empty(1, num_points, embed_dim))
        nn.init.xavier_uniform_(self.points)
        self.gather = MAB(embed_dim, key_dim=in_dim, num_heads=num_heads, norm=norm)
        self.read = MAB(embed_dim, query_dim=in_dim, num_heads=num_heads, norm=norm)

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        nn.init.xavier_uniform_(self.points)

    def forward(self, x_nlk: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return the set after attention, ``(n, l, c)``."""
        points_npc = self.gather(self.points.expand(x_nlk.shape[0], -1, -1), x_nlk, mask_nl)
        out: Tensor = self.read(x_nlk, points_npc)
        return out

    def attention(self, x_nlk: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return the weights of the points over the set, ``gather``, and of the set over the points, ``read``."""
        points_npc = self.points.expand(x_nlk.shape[0], -1, -1)
        gather = self.gather.attention(points_npc, x_nlk, mask_nl)["attention"]
        read = self.read.attention(x_nlk, self.gather(points_npc, x_nlk, mask_nl))["attention"]
        return {"gather": gather, "read": read}
