"""YaRN: rotary frequencies stretched to contexts longer than those of training."""

import math

import torch
from torch import Tensor

Yarn = tuple[float, float, float, float, float, float]


def yarn_scale(factor: float, weight: float) -> float:
    """Return ``0.1 weight ln(factor) + 1``, the growth of the scores that YaRN asks for."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def yarn_tables(x_nhld: Tensor, *, base: float, yarn: Yarn, offset: int = 0) -> tuple[Tensor, Tensor]:
    """Return cosine and sine ``(l, d / 2)`` of all channels of ``x``, whose first position is ``offset``.

    Frequencies that turn more than ``beta_fast`` times within the trained length stay, those that turn less than
    ``beta_slow`` times are divided by ``factor``, and those between are mixed.
    """
    factor, trained, fast, slow, mscale, mscale_all = yarn
    dim, dtype = x_nhld.shape[-1], torch.promote_types(x_nhld.dtype, torch.float32)
    low, high = (dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base)) for turns in (fast, slow))
    low, high = max(math.floor(low), 0), min(math.ceil(high), dim - 1)
    channel_p = torch.arange(dim // 2, device=x_nhld.device, dtype=dtype)
    ramp_p = ((channel_p - low) / (high - low if high > low else 0.001)).clamp(0, 1)
    frequency_p = base ** (-2 * channel_p / dim) * (1 - ramp_p + ramp_p / factor)
    position_l = torch.arange(x_nhld.shape[2], device=x_nhld.device, dtype=dtype) + offset
    angle_lp = position_l[:, None] * frequency_p
    growth = yarn_scale(factor, 1.0)
    if mscale and mscale_all:
        growth = yarn_scale(factor, mscale) / yarn_scale(factor, mscale_all)
    return (angle_lp.cos() * growth).to(x_nhld.dtype), (angle_lp.sin() * growth).to(x_nhld.dtype)
