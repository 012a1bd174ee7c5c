"""What a mask must be, in the same words for every block."""

import torch
from torch import Tensor


def check_mask(mask: Tensor | None, keys: int) -> None:
    """Refuse masks of numbers, as 0 and 1 would be added to scores, and masks of another length than the keys."""
    if mask is None:
        return
    if mask.dtype != torch.bool:
        message = f"attention: a mask of {mask.dtype}, expected torch.bool with True = may attend; give mask.bool()"
        raise ValueError(message)
    if mask.shape[-1] not in (1, keys):
        message = f"attention: a mask of shape {tuple(mask.shape)} for {keys} keys, expected {keys} as its last size"
        raise ValueError(message)
