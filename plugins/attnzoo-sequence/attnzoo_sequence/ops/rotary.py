"""Rotary positions: each pair of channels of a head is turned by an angle that grows with the position."""

from typing import Literal

import torch
from torch import Tensor

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
    pairs = cos_lp.shape[-1]
    rotary_nhld = x_nhld[..., : 2 * pairs]
    if layout == "half":
        first, second = rotary_nhld[..., :pairs], rotary_nhld[..., pairs:]
        turned = [first * cos_lp - second * sin_lp, second * cos_lp + first * sin_lp]
    else:
        first, second = rotary_nhld.unflatten(-1, (pairs, 2)).unbind(-1)
        turned = [torch.stack([first * cos_lp - second * sin_lp, second * cos_lp + first * sin_lp], -1).flatten(-2)]
    if 2 * pairs < x_nhld.shape[-1]:
        turned.append(x_nhld[..., 2 * pairs :])
    return torch.cat(turned, dim=-1) if len(turned) > 1 else turned[0]
