"""Fixed sinusoidal positions."""

import torch
from torch import Tensor, nn

from attnzoo_sequence.ops.checks import check_positive
from attnzoo_sequence.ops.interleave import interleave


class SinusoidalPositions(nn.Module):
    """Add sines and cosines of the position to every token.

    ``y_p,2i = x_p,2i + sin(p / base^(2i/C))``, ``y_p,2i+1 = x_p,2i+1 + cos(p / base^(2i/C))``

    Args:
        embed_dim: Width of the tokens, even.
        base: Base of the wavelengths, which run from ``2 pi`` to ``2 pi base``.
        scale: Factor of the input before the sum; the transformer uses ``sqrt(embed_dim)`` on its embeddings.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``, any length. ``first`` is the position of the first token.

    Raises:
        ValueError: ``embed_dim`` is odd or not positive.

    Source:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762, section 3.5.
        Deviations: none; tensor2tensor's code puts all sines before all cosines, with ``C/2 - 1`` in the exponent.
    """

    def __init__(self, embed_dim: int, *, base: float = 10000.0, scale: float = 1.0) -> None:
        super().__init__()
        check_positive("SinusoidalPositions", embed_dim=embed_dim, base=base)
        if embed_dim % 2:
            message = f"SinusoidalPositions: embed_dim={embed_dim} is odd, expected pairs of sine and cosine"
            raise ValueError(message)
        self.embed_dim, self.base, self.scale = embed_dim, base, scale

    def forward(self, x_nlc: Tensor, first: int = 0) -> Tensor:
        """Return the tokens with their positions added."""
        dtype = torch.promote_types(x_nlc.dtype, torch.float32)
        exponent_p = torch.arange(0, self.embed_dim, 2, device=x_nlc.device, dtype=dtype) / self.embed_dim
        position_l = torch.arange(x_nlc.shape[1], device=x_nlc.device, dtype=dtype) + first
        angle_lp = position_l[:, None] * self.base**-exponent_p
        table_lc = interleave(angle_lp.sin(), angle_lp.cos()).to(x_nlc.dtype)
        return x_nlc + table_lc if self.scale == 1.0 else x_nlc * self.scale + table_lc
