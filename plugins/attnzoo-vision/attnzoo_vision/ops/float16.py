"""Products whose sums overflow in float16."""

from collections.abc import Callable

import torch
from torch import Tensor


def in_float32(function: Callable[..., Tensor], *factors: Tensor) -> Tensor:
    """Return ``function(*factors)``, in float32 where its products would be in float16, of itself or by autocast."""
    if not _multiplies_in_float16(factors[0]):
        return function(*factors)
    with torch.autocast(factors[0].device.type, enabled=False):
        return function(*(factor.float() for factor in factors))


def _multiplies_in_float16(x: Tensor) -> bool:
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device) is torch.float16
    return x.dtype is torch.float16
