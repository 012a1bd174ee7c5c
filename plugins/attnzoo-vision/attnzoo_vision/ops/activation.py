"""Activations and gates by the names that specs use."""

import functools
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.rectify import rectify, rectify_

Activation = Literal[
    "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "silu", "gelu", "gelu_tanh", "quick_gelu", "hard_swish",
    "mish", "hard_mish", "softplus", "softsign", "sigmoid", "log_sigmoid", "hard_sigmoid", "tanh", "hard_tanh",
    "identity",
]  # fmt: skip
Gate = Literal["sigmoid", "hard_sigmoid", "hard_sigmoid_0.2", "tanh", Activation]


def get_activation(owner: str, name: str) -> Callable[[Tensor], Tensor]:
    """Return the activation called ``name``; ``owner`` is the class that a wrong name is reported for.

    Raises:
        ValueError: There is no activation of that name.
    """
    return _pick(_functions(), owner, "activation", name)


def get_fresh_activation(owner: str, name: str) -> Callable[[Tensor], Tensor]:
    """Return the activation for maps that are fresh and not needed again as they are: it may write over them."""
    return rectify_ if name == "relu" else get_activation(owner, name)


def get_gate(owner: str, name: str) -> Callable[[Tensor], Tensor]:
    """Return the gate called ``name``: any activation, too; ``owner`` is the class that a wrong name is reported for.

    ``hard_sigmoid`` is ``clip(x / 6 + 1/2, 0, 1)``, ``hard_sigmoid_0.2`` is ``clip(x / 5 + 1/2, 0, 1)``.

    Raises:
        ValueError: There is no gate of that name.
    """
    functions = _functions()
    usual = {key: functions.pop(key) for key in ("sigmoid", "hard_sigmoid", "tanh")}
    return _pick({**usual, "hard_sigmoid_0.2": _hard_sigmoid_fifth, **functions}, owner, "gate", name)


def _functions() -> dict[str, Callable[[Tensor], Tensor]]:
    return {
        "relu": rectify,
        "relu6": F.relu6,
        "leaky_relu": F.leaky_relu,
        "elu": F.elu,
        "celu": F.celu,
        "selu": F.selu,
        "silu": F.silu,
        "gelu": F.gelu,
        "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
        "quick_gelu": _quick_gelu,
        "hard_swish": F.hardswish,
        "mish": F.mish,
        "hard_mish": _hard_mish,
        "softplus": F.softplus,
        "softsign": F.softsign,
        "sigmoid": torch.sigmoid,
        "log_sigmoid": F.logsigmoid,
        "hard_sigmoid": F.hardsigmoid,
        "tanh": torch.tanh,
        "hard_tanh": F.hardtanh,
        "identity": _same,
    }


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


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _hard_mish(x: Tensor) -> Tensor:
    return 0.5 * x * (x + 2).clamp(0, 2)


def _hard_sigmoid_fifth(x: Tensor) -> Tensor:
    return (x * 0.2 + 0.5).clamp(0.0, 1.0)
