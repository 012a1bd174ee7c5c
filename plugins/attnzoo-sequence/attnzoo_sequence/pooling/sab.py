"""Set attention block of the Set Transformer."""

from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.checks import check_heads, check_positive
from attnzoo_sequence.pooling.mab import MAB


class SAB(nn.Module):
    """Let the elements of a set attend to one another, then apply a feed-forward layer, both with residuals.

    ``out = MAB(x, x)``

    Args:
        embed_dim: Width of the output.
        in_dim: Width of the input; None: ``embed_dim``.
        num_heads: Number of heads.
        norm: Whether LayerNorm follows each sum.

    Shape:
        ``(N, L, Cin)``, mask ``(N, L)`` with True = element, to ``(N, L, C)``.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``.

    Source:
        Lee et al., "Set Transformer", ICML 2019, arXiv:1810.00825, eq. 8.
        Authors' code: github.com/juho-lee/set_transformer @ 73432c6, modules.py. Deviations: a mask.
    """

    def __init__(self, embed_dim: int, *, in_dim: int | None = None, num_heads: int = 4, norm: bool = False) -> None:
        super().__init__()
        check_heads("SAB", embed_dim, num_heads)
        check_positive("SAB", in_dim=in_dim)
        self.mab = MAB(embed_dim, query_dim=in_dim, key_dim=in_dim, num_heads=num_heads, norm=norm)

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)

    def forward(self, x_nlk: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return the set after attention, ``(n, l, c)``."""
        out: Tensor = self.mab(x_nlk, x_nlk, mask_nl)
        return out

    def attention(self, x_nlk: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return the weights, ``(n, h, l, l)``."""
        return self.mab.attention(x_nlk, x_nlk, mask_nl)
