"""Activations and gates by the names that specs use."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.rectify import rectify, rectify_

Activation = Literal[
    "relu", "relu6", "leaky_relu", "elu", "silu", "gelu", "hard_swish", "mish", "tanh", "sigmoid", "identity"
]
Gate = Literal["sigmoid", "hard_sigmoid", "hard_sigmoid_0.2", "tanh"]


def get_activation(owner: str, name: str) -> Callable[[Tensor], Tensor]:
    """Return the activation called ``name``; ``owner`` is the class that a wrong name is reported for.

    Raises:
        ValueError: There is no activation of that name.
    """
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": rectify,
        "relu6": F.relu6,
        "leaky_relu": F.leaky_relu,
        "elu": F.elu,
        "silu": F.silu,
        "gelu": F.gelu,
        "hard_swish": F.hardswish,
        "mish": F.mish,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "identity": _same,
    }
    return _pick(functions, owner, "activation", name)


def get_fresh_activation(owner: str, name: str) -> Callable[[Tensor], Tensor]:
    """Return the activation for maps that are fresh and not needed again as they are: it may write over them."""
    return rectify_ if name == "relu" else get_activation(owner, name)


def get_gate(owner: str, name: str) -> Callable[[Tensor], Tensor]:
    """Return the gate called ``name``; ``owner`` is the class that a wrong name is reported for.

    ``hard_sigmoid`` is ``clip(x / 6 + 1/2, 0, 1)``, ``hard_sigmoid_0.2`` is ``clip(x / 5 + 1/2, 0, 1)``.

    Raises:
        ValueError: There is no gate of that name.
    """
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "sigmoid": torch.sigmoid,
        "hard_sigmoid": F.hardsigmoid,
        "hard_sigmoid_0.2": _hard_sigmoid_fifth,
        "tanh": torch.tanh,
    }
    return _pick(functions, owner, "gate", name)


def _pick(
    functions: dict[str, Callable[[Tensor], Tensor]], owner: str, argument: str, name: str
) -> Callable[[Tensor], Tensor]:
    if name not in functions:
        known = ", ".join(repr(key) for key in functions)
        message = f"{owner}: {argument}={name!r} is not known; use one of {known}"
        raise ValueError(message)
    return functions[name]


def _same(x: Tensor) -> Tensor:
    return x


def _hard_sigmoid_fifth(x: Tensor) -> Tensor:
    return (x * 0.2 + 0.5).clamp(0.0, 1.0)
