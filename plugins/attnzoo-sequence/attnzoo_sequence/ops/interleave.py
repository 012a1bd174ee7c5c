"""Neighbouring channels as pairs: complex numbers where torch has them, strided halves elsewhere."""

import torch
from torch import Tensor

_COMPLEX = (torch.float32, torch.float64)


def as_complex(x: Tensor) -> Tensor | None:
    """Return channels ``2i`` and ``2i + 1`` as the complex number ``i``; None for half precision or compiled graphs.

    Inductor has no code for complex numbers. A view must start and step by whole pairs; others are copied.
    """
    if x.dtype not in _COMPLEX or torch.compiler.is_compiling():
        return None
    whole = x.stride(-1) == 1 and not x.storage_offset() % 2 and not any(step % 2 for step in x.stride()[:-1])
    whole_x = x if whole else x.clone(memory_format=torch.contiguous_format)
    return torch.view_as_complex(whole_x.unflatten(-1, (-1, 2)))


def from_complex(x: Tensor) -> Tensor:
    """Return the real and imaginary part ``i`` as channels ``2i`` and ``2i + 1``."""
    return torch.view_as_real(x).flatten(-2)


def interleave(first: Tensor, second: Tensor) -> Tensor:
    """Return ``first`` as the even and ``second`` as the odd channels."""
    if first.dtype in _COMPLEX and not torch.compiler.is_compiling():
        return from_complex(torch.complex(first, second))
    return torch.stack([first, second], dim=-1).flatten(-2)
