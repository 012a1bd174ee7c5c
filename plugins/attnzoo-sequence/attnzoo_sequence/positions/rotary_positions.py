"""Rotary positions of queries or keys that are already split into heads."""

from typing import Literal

from torch import Tensor, nn

from attnzoo_sequence.ops.checks import check_choice, check_positive
from attnzoo_sequence.ops.rotary import rotary_tables, rotate


class RotaryPositions(nn.Module):
    """Turn each pair of channels of a head by an angle that grows with the position.

    ``(a, b) -> (a cos - b sin, b cos + a sin)`` of ``p base^(-2i / r)`` for pair ``i`` at position ``p``

    Args:
        rotary_dim: Number of channels ``r`` that turn, from the first of a head; even.
        base: Base of the frequencies.
        layout: Which channels form a pair: ``half`` (i and i + r/2: GPT-NeoX, Hugging Face LLaMA) or ``interleaved``
            (2i and 2i + 1: RoFormer, GPT-J, Meta's LLaMA).

    Shape:
        ``(N, H, L, d)`` to ``(N, H, L, d)`` with ``d >= rotary_dim``. ``first`` is the position of the first token.

    Raises:
        ValueError: ``rotary_dim`` is odd or not positive; an unknown layout.

    Source:
        Su et al., "RoFormer", 2021, arXiv:2104.09864, eq. 34.
        Deviations: none. Angles are float32 at least, then cast.
    """

    def __init__(
        self, rotary_dim: int, *, base: float = 10000.0, layout: Literal["half", "interleaved"] = "half"
    ) -> None:
        super().__init__()
        check_positive("RotaryPositions", rotary_dim=rotary_dim, base=base)
        check_choice("RotaryPositions", "layout", layout, ("half", "interleaved"))
        if rotary_dim % 2:
            message = f"RotaryPositions: rotary_dim={rotary_dim} is odd; pairs of channels turn"
            raise ValueError(message)
        self.rotary_dim, self.base, self.layout = rotary_dim, base, layout

    def forward(self, x_nhld: Tensor, first: int = 0) -> Tensor:
        """Return the heads, turned."""
        cos_lp, sin_lp = rotary_tables(x_nhld, rotary_dim=self.rotary_dim, base=self.base, offset=first)
        return rotate(x_nhld, cos_lp, sin_lp, self.layout)
