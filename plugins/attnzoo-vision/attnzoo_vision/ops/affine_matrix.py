"""Affine matrices of fewer than six numbers: a rotation, a scale, a translation, or some of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

_IDENTITY = {"rotation": (0.0,), "scale": (1.0,), "translation": (0.0, 0.0)}


def check_transforms(name: str, transforms: Sequence[str]) -> None:
    """Raise ValueError unless ``transforms`` are some of those above, each once."""
    if isinstance(transforms, str):
        message = f"{name}: transforms={transforms!r} is one string; give a list, as [{transforms!r}]"
        raise ValueError(message)
    if not transforms or len(set(transforms)) < len(transforms) or not set(transforms) <= set(_IDENTITY):
        known = ", ".join(map(repr, _IDENTITY))
        message = f"{name}: transforms={list(transforms)} has an unknown, a repeated or no name; use some of {known}"
        raise ValueError(message)


def identity_of(transforms: Sequence[str]) -> list[float]:
    """Return the numbers that give the identity, in the order that :func:`affine_matrix` takes."""
    return [number for name, numbers in _IDENTITY.items() if name in transforms for number in numbers]


def affine_matrix(numbers_np: Tensor, transforms: Sequence[str]) -> Tensor:
    """Return ``R(a) S(s) T(t)``, the translation first, ``(N, 2, 3)`` with rows x and y.

    The numbers of each sample are the angle ``a`` in radians, the scale ``s`` and the translation ``t`` in x and y, or
    those of them that ``transforms`` names, always in this order. ``R(a) = [[cos a, sin a], [-sin a, cos a]]``.
    """
    numbers = list(numbers_np.unbind(1))
    zero_n = torch.zeros_like(numbers[0])
    angle_n = numbers.pop(0) if "rotation" in transforms else zero_n
    scale_n = numbers.pop(0) if "scale" in transforms else zero_n + 1
    x_n, y_n = numbers if "translation" in transforms else (zero_n, zero_n)
    cos_n, sin_n = scale_n * torch.cos(angle_n), scale_n * torch.sin(angle_n)
    first_n3 = torch.stack((cos_n, sin_n, cos_n * x_n + sin_n * y_n), dim=1)
    second_n3 = torch.stack((-sin_n, cos_n, cos_n * y_n - sin_n * x_n), dim=1)
    return torch.stack((first_n3, second_n3), dim=1)
