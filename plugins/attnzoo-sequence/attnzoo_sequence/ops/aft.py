"""The average of all attention-free transformers: a linear map over positions of ``exp(k) v`` and of ``exp(k)``."""

from collections.abc import Callable

import torch
from torch import Tensor

from attnzoo_sequence.ops.masks import check_key_mask
from attnzoo_sequence.ops.norm import or_one
from attnzoo_sequence.ops.prefix import accumulation_dtype


def weighted_average(
    key_nlr: Tensor, value_nlr: Tensor, mask_nl: Tensor | None, mix: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return ``mix(exp(k) v) / mix(exp(k))``; ``mix`` sums over the positions of ``(n, l, r)``; zero for 0 / 0.

    Keys are shifted by their largest one, which cancels. Sums are taken in float32 at least; there a row reads zero if
    all its weights are below some 1e-31 of that key's.
    """
    check_key_mask(mask_nl, key_nlr)
    if not key_nlr.shape[1]:
        return value_nlr
    dtype, wide = value_nlr.dtype, accumulation_dtype(value_nlr)
    key_nlr, value_nlr = key_nlr.to(wide), value_nlr.to(wide)
    top_n1r = key_nlr.detach()
    if mask_nl is not None:
        top_n1r = top_n1r.masked_fill(~mask_nl[..., None], torch.finfo(key_nlr.dtype).min)
    exponent_nlr = key_nlr - top_n1r.amax(dim=1, keepdim=True)
    if mask_nl is not None:
        exponent_nlr = exponent_nlr.masked_fill(~mask_nl[..., None], -torch.inf)
    weight_nlr = exponent_nlr.exp()
    total, norm = mix(weight_nlr * value_nlr), mix(weight_nlr)
    return (total / or_one(norm)).to(dtype)


def band_weights(bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a token outside the band weighs, and what one inside weighs more, for biases along the last axis.

    They are ``exp(-m)`` and ``exp(w - m) - exp(-m)``, with ``m`` the largest bias or 0: no exponential overflows, and
    ``exp(-m)`` cancels in the average. In float32 at least.
    """
    bias = bias.to(accumulation_dtype(bias))
    top = bias.detach().amax(dim=-1, keepdim=True).clamp(min=0)
    outside = (-top).exp()
    return outside, (bias - top).exp() - outside


def apply_gate(query_nlr: Tensor, average_nlr: Tensor) -> Tensor:
    """Return ``sigmoid(query) * average``."""
    return torch.sigmoid(query_nlr) * average_nlr
