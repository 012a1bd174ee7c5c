"""Run a module without leaving a trace on it."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["device_of", "dtype_of", "preserved"]

_DICTS = (dict, OrderedDict)
_Undo = Callable[[], None]


@contextmanager
def preserved(host: nn.Module) -> Iterator[None]:
    """Give ``host`` back as it was: attributes, buffers, hooks, training flags, and the random state.

    Some hosts store tensors on themselves while they run (anchors, caches), and a run with fake tensors would leave
    fake ones behind. Parameters are not copied: a forward pass does not write to them.
    """
    undo = [step for module in host.modules() for step in _snapshot(module)]
    devices = sorted({t.device.index or 0 for t in host.parameters() if t.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        with torch.no_grad():
            for step in undo:
                step()


def device_of(*modules: nn.Module) -> torch.device:
    """Return the device of the first tensor of ``modules`` (the CPU if they have none)."""
    return next((tensor.device for tensor in _tensors(*modules)), torch.device("cpu"))


def dtype_of(*modules: nn.Module) -> torch.dtype:
    """Return the type of the first floating tensor of ``modules`` (the default type if they have none)."""
    return next((t.dtype for t in _tensors(*modules) if t.is_floating_point()), torch.get_default_dtype())


def _tensors(*modules: nn.Module) -> Iterator[Tensor]:
    for module in modules:
        yield from module.parameters()
        yield from module.buffers()


def _snapshot(module: nn.Module) -> Iterator[_Undo]:
    """Yield the steps that restore ``module.__dict__`` and the containers and tensors in it (so also its buffers)."""
    yield _refill_dict(module.__dict__)
    for value in list(module.__dict__.values()):
        yield from _contents(value, depth=4)


def _contents(value: object, depth: int) -> Iterator[_Undo]:
    if type(value) is Tensor:
        if value.device.type != "meta":
            yield _rewrite(value)
    elif depth and isinstance(value, dict) and type(value) in _DICTS:
        yield _refill_dict(value)
        for inner in list(value.values()):
            yield from _contents(inner, depth - 1)
    elif depth and isinstance(value, list) and type(value) is list:
        yield _refill_list(value)
        for inner in value:
            yield from _contents(inner, depth - 1)


def _refill_dict(target: dict[Any, Any]) -> _Undo:
    saved = dict(target)

    def restore() -> None:
        if list(target) != list(saved) or any(target[key] is not value for key, value in saved.items()):
            target.clear()
            target.update(saved)

    return restore


def _refill_list(target: list[Any]) -> _Undo:
    saved = list(target)

    def restore() -> None:
        target[:] = saved

    return restore


def _rewrite(tensor: Tensor) -> _Undo:
    saved = tensor.detach().clone()

    def restore() -> None:
        if not torch.equal(tensor, saved):
            tensor.detach().copy_(saved)

    return restore
