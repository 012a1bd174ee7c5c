"""Find the tensor in what a module takes or returns, and put another in its place.

A *slot* is the way to the tensor: ``()`` for a bare tensor, ``(0,)`` for the first of a tuple, ``("hidden", 1)`` …
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

__all__ = ["Slot", "first_slot", "get", "put"]

Slot = tuple[int | str, ...]


def first_slot(value: object) -> Slot | None:
    """Return the slot of the first floating tensor with at least two axes in ``value``, or None."""
    return next((slot for slot, tensor in _tensors(value, ()) if tensor.is_floating_point() and tensor.ndim > 1), None)


def get(value: Any, slot: Slot) -> Any:
    """Return what is at ``slot`` of ``value``."""
    for key in slot:
        value = value[key]
    return value


def put(value: Any, slot: Slot, new: Any) -> Any:
    """Return ``value`` with ``new`` at ``slot``; tuples, lists and dicts are copied, other mappings changed."""
    if not slot:
        return new
    key, rest = slot[0], slot[1:]
    changed = put(value[key], rest, new)
    if isinstance(value, tuple):
        items = [changed if i == key else item for i, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if type(value) is list or type(value) is dict:
        value = value.copy()
    value[key] = changed
    return value


def _tensors(value: object, slot: Slot) -> Iterator[tuple[Slot, Tensor]]:
    if isinstance(value, Tensor):
        yield slot, value
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            yield from _tensors(item, (*slot, i))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, (*slot, key))
