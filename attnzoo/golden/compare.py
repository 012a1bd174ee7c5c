"""Comparing tensors: error, tolerance, and what cannot be compared."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnzoo.card import Dialect
from attnzoo.expression import evaluate
from attnzoo.golden.call import dotted
from attnzoo.golden.files import GoldenFile

__all__ = ["Comparison", "compare", "compare_gradients", "compare_maps", "without_rounding"]

VALUE_TOLERANCE = 2e-5
GRADIENT_TOLERANCE = 5e-5
_ROUNDING = 5  # 1e-4 for values: mistakes that are larger than that are never taken for rounding


@dataclass(frozen=True)
class Comparison:
    """One tensor compared: its name, the error relative to its scale, and what is tolerated."""

    name: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the error is within the tolerance (NaN never is)."""
        return self.error <= self.tolerance


def compare_maps(
    golden: GoldenFile, dialect: Dialect, maps: Mapping[str, Tensor], names: Mapping[str, Any]
) -> Iterator[Comparison]:
    """Compare every stored map that the dialect does not leave out with a reason."""
    table, unmapped = dialect.call.get("maps") or {}, dialect.call.get("unmapped") or {}
    for key, stored in golden.groups["map"].items():
        if key in unmapped:
            continue
        if key in table:
            yield compare(f"map.{key}", evaluate(str(table[key]), names), stored)
        elif key in maps:
            yield compare(f"map.{key}", maps[key], stored)
        else:
            known = ", ".join(maps) or "none"
            yield Comparison(f"map.{key}", float("inf"), VALUE_TOLERANCE, f"the block shows no such map, only {known}")


def compare_gradients(
    golden: GoldenFile, outputs: Mapping[str, Tensor], leaves: Mapping[str, Tensor]
) -> Iterator[Comparison]:
    """Compare the gradients of the stored scalar with respect to the inputs."""
    wanted = golden.groups["grad_input"]
    terms = [(outputs[k] * c).sum() for k, c in golden.groups["cotangent"].items()]
    if not wanted or not terms:
        return
    keys = list(wanted)
    gradients = torch.autograd.grad(torch.stack(terms).sum(), [leaves[k] for k in keys], allow_unused=True)
    for key, gradient in zip(keys, gradients, strict=True):
        value = torch.zeros_like(wanted[key]) if gradient is None else gradient
        yield compare(f"grad_input{dotted(key)}", value, wanted[key], GRADIENT_TOLERANCE)


def without_rounding(
    comparisons: Sequence[Comparison], again: Callable[[], Sequence[Comparison]]
) -> Sequence[Comparison]:
    """Return ``comparisons``, those slightly over their tolerance replaced where ``again``, in float64, is within it.

    A batch norm over the few values of a pooled map, for example, amplifies the rounding of float32, ours and theirs.
    """
    over = [c for c in comparisons if not c.ok]
    if not over or not all(c.error <= _ROUNDING * c.tolerance for c in over):
        return comparisons
    try:
        exact = {c.name: c for c in again()}
    except Exception:  # a block that cannot compute in float64 keeps its result in float32
        return comparisons
    rounded = {c.name: dataclasses.replace(exact[c.name], note="in float64") for c in over if exact[c.name].ok}
    return [rounded.get(c.name, c) for c in comparisons]


def compare(name: str, value: Any, stored: Tensor, tolerance: float = VALUE_TOLERANCE) -> Comparison:
    """Compare one tensor with what is stored."""
    if not isinstance(value, Tensor):
        return Comparison(name, float("inf"), tolerance, f"a {type(value).__name__}, expected a tensor")
    if value.shape != stored.shape:
        note = f"shape {tuple(value.shape)}, expected {tuple(stored.shape)}"
        return Comparison(name, float("inf"), tolerance, note)
    if not stored.numel():
        return Comparison(name, 0.0, tolerance)
    value, stored = value.detach().double(), stored.detach().double()
    same = (value == stored) | (value.isnan() & stored.isnan())
    difference = torch.where(same, 0.0, (value - stored).abs()).max().item()
    finite = stored[stored.isfinite()]
    largest = finite.abs().max().item() if finite.numel() else 1.0
    # Errors count relative to the largest entry, or absolutely where it is below 1. Small tensors are not let off, but
    # a gradient that vanishes exactly (through the weight of a lone key) still has the rounding of its terms.
    floor = 1e-2 if tolerance == GRADIENT_TOLERANCE else 1e-6
    scale = 1.0 if 1e-2 <= largest <= 1 else max(largest, floor)
    return Comparison(name, difference / scale, tolerance)
