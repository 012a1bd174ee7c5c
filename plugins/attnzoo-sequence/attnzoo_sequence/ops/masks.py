"""What a mask must be, in the same words for every block."""

import torch
from torch import Tensor


def check_key_mask(mask_nm: Tensor | None, key: Tensor) -> None:
    """Refuse a mask that is not one boolean for each sample and key; one row may serve all samples.

    ``key`` is ``(n, m, c)`` or ``(n, h, m, d)``.
    """
    if mask_nm is None:
        return
    _check_boolean(mask_nm)
    samples, keys = key.shape[0], key.shape[-2]
    if mask_nm.dim() != 2 or mask_nm.shape[0] not in (1, samples) or mask_nm.shape[1] != keys:
        found = f"a mask of shape {tuple(mask_nm.shape)}, expected {(samples, keys)}"
        message = f"attention: {found}; give one row for each sample, with True for each key that may be attended"
        raise ValueError(message)


def check_pair_mask(mask: Tensor | None, query: Tensor, key: Tensor) -> None:
    """Refuse a mask that is not boolean ``(l, m)``, ``(n, l, m)`` or ``(n, h, l, m)``; sizes of 1 serve all.

    ``query`` is ``(n, l, c)`` or ``(n, h, l, d)``, ``key`` likewise.
    """
    if mask is None:
        return
    _check_boolean(mask)
    samples, pairs = query.shape[0], (query.shape[-2], key.shape[-2])
    heads = query.shape[1] if query.dim() == 4 else 1
    wanted = {2: pairs, 3: (samples, *pairs), 4: (samples, heads, *pairs)}.get(mask.dim())
    if wanted is None or any(size not in (1, want) for size, want in zip(mask.shape, wanted, strict=True)):
        found = f"a mask of shape {tuple(mask.shape)}, expected {wanted or pairs}"
        message = f"attention: {found}; give a row for each query, with True for each key that it may attend to"
        raise ValueError(message)


def check_mask(visible: Tensor | None, keys: int) -> None:
    """Refuse joined masks of numbers, as 0 and 1 would be added to scores, or of another length than the keys."""
    if visible is None:
        return
    _check_boolean(visible)
    if visible.shape[-1] not in (1, keys):
        message = f"attention: a mask of shape {tuple(visible.shape)} for {keys} keys, expected {keys} as its last size"
        raise ValueError(message)


def _check_boolean(mask: Tensor) -> None:
    if mask.dtype != torch.bool:
        message = f"attention: a mask of {mask.dtype}, expected torch.bool with True = may attend; give mask.bool()"
        raise ValueError(message)
