"""Rotary positions: each pair of channels of a head is turned by an angle that grows with the position."""

from typing import Literal

import torch
from torch import Tensor

from attnzoo_sequence.ops.interleave import as_complex, from_complex, interleave

Layout = Literal["half", "interleaved"]


def rotary_tables(x_nhld: Tensor, *, rotary_dim: int, base: float, offset: int = 0) -> tuple[Tensor, Tensor]:
    """Return cosine and sine ``(l, rotary_dim / 2)`` of ``position * base^(-2i / rotary_dim)``.

    Angles are computed in float32 at least, then cast: positions are not exact in half precision.
    """
    dtype = torch.promote_types(x_nhld.dtype, torch.float32)
    exponent_p = torch.arange(0, rotary_dim, 2, device=x_nhld.device, dtype=dtype) / rotary_dim
    position_l = torch.arange(x_nhld.shape[2], device=x_nhld.device, dtype=dtype) + offset
    angle_lp = position_l[:, None] * base**-exponent_p
    return angle_lp.cos().to(x_nhld.dtype), angle_lp.sin().to(x_nhld.dtype)


def rotate(x_nhld: Tensor, cos_lp: Tensor, sin_lp: Tensor, layout: Layout) -> Tensor:
    """Turn the first ``2 p`` channels of each head; the others pass.

    ``half`` pairs channel ``i`` with ``i + p`` (NeoX, Hugging Face LLaMA); ``interleaved`` pairs ``2i`` with ``2i + 1``
    (GPT-J, RoFormer, Meta LLaMA).
    """
    turning = 2 * cos_lp.shape[-1]
    turned_nhld = (_turn_halves if layout == "half" else _turn_neighbours)(x_nhld[..., :turning], cos_lp, sin_lp)
    if turning == x_nhld.shape[-1]:
        return turned_nhld
    return torch.cat([turned_nhld, x_nhld[..., turning:]], dim=-1)


def _turn_halves(x_nhld: Tensor, cos_lp: Tensor, sin_lp: Tensor) -> Tensor:
    """Two products over the whole width: half as many passes as a product for each half."""
    first, second = x_nhld.chunk(2, dim=-1)
    cos_ld, sin_ld = torch.cat([cos_lp, cos_lp], dim=-1), torch.cat([-sin_lp, sin_lp], dim=-1)
    return torch.addcmul(x_nhld * cos_ld, torch.cat([second, first], dim=-1), sin_ld)


def _turn_neighbours(x_nhld: Tensor, cos_lp: Tensor, sin_lp: Tensor) -> Tensor:
    """A neighbouring pair is a complex number: one product; strided halves cost ten times as much."""
    pairs_nhlp = as_complex(x_nhld)
    if pairs_nhlp is not None:
        return from_complex(pairs_nhlp * torch.complex(cos_lp, sin_lp))
    first, second = x_nhld.unflatten(-1, (-1, 2)).unbind(-1)
    return interleave(first * cos_lp - second * sin_lp, second * cos_lp + first * sin_lp)
