"""Shape contracts of cards: ``"query: n l c, key?: n m c -> n l c"`` with the rules for its axes."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnzoo.errors import CardError, ExpressionError
from attnzoo.expression import evaluate

__all__ = ["Contract", "Input", "parse_contract", "sizes_for"]


@dataclass(frozen=True)
class Input:
    """One input of a contract: its name (empty when it is the only one), its axes, and whether it may be left out."""

    name: str
    axes: tuple[str, ...]
    optional: bool = False


@dataclass(frozen=True)
class Contract:
    """A parsed shape contract. An axis is a name, a number, or a product in brackets such as ``(n t)``."""

    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, ...], ...]

    @property
    def free_axes(self) -> tuple[str, ...]:
        """The names of the axes of the inputs, each once."""
        return tuple(dict.fromkeys(a for i in self.inputs for axis in i.axes for a in _names(axis)))


def parse_contract(text: str, where: str = "shape") -> Contract:
    """Read a shape contract.

    Raises:
        CardError: Not of the form ``inputs -> outputs``.
    """
    left, arrow, right = text.partition("->")
    if not arrow or not left.strip() or not right.strip():
        message = f"{where}: {text!r}, expected 'inputs -> outputs', as in 'n c h w -> n c h w'"
        raise CardError(message)
    inputs = tuple(_input(part) for part in left.split(","))
    return Contract(inputs, tuple(split_axes(part) for part in right.split(",")))


def _input(text: str) -> Input:
    name, colon, axes = text.rpartition(":")
    name = name.strip() if colon else ""
    return Input(name.rstrip("?"), split_axes(axes), name.endswith("?"))


def split_axes(text: str) -> tuple[str, ...]:
    """Split ``"(n t) c 1"`` into its axes."""
    return tuple(re.findall(r"\([^)]*\)|\S+", text.strip()))


def _names(axis: str) -> list[str]:
    return re.findall(r"[A-Za-z_]\w*", axis)


def sizes_for(
    contract: Contract, axes: Mapping[str, Any], arguments: Mapping[str, Any], wanted: Mapping[str, int]
) -> dict[str, int]:
    """Return a size for every axis: fixed ones from the card, free ones from ``wanted``, rounded to the axis' rule.

    Raises:
        CardError: A rule cannot be evaluated.
    """
    sizes: dict[str, int] = {}
    for name in contract.free_axes:
        sizes[name] = _size(name, axes.get(name), arguments, wanted.get(name, 4), sizes)
    for name, rule in axes.items():
        if name not in sizes:
            sizes[name] = _size(name, rule, arguments, wanted.get(name, 4), sizes)
    return sizes


def _size(name: str, rule: Any, arguments: Mapping[str, Any], wanted: int, sizes: Mapping[str, int]) -> int:
    names = {**sizes, **arguments}
    try:
        if rule is None:
            return arguments.get("channels", wanted) if name == "c" else wanted
        if isinstance(rule, Mapping):
            minimum = int(evaluate(str(rule.get("min", 1)), names))
            multiple = int(evaluate(str(rule.get("multiple", 1)), names))
            return math.ceil(max(wanted, minimum) / multiple) * multiple
        return int(evaluate(str(rule), names))
    except (ExpressionError, TypeError, ValueError, ZeroDivisionError) as error:
        message = f"axes.{name}: {rule!r}: {error}"
        raise CardError(message) from error


def concrete(axes: tuple[str, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of ``axes`` under ``sizes``."""
    shape = []
    for axis in axes:
        names = re.findall(r"[A-Za-z_]\w*|\d+", axis)
        missing = [n for n in names if not n.isdigit() and n not in sizes]
        if missing:
            message = f"axes: no size for axis {missing[0]!r}, expected an entry under `axes:` of the card"
            raise CardError(message)
        shape.append(math.prod(int(n) if n.isdigit() else sizes[n] for n in names))
    return tuple(shape)
