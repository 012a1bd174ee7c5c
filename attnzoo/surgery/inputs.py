"""Inputs to run a host with: those given, or good guesses."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from attnzoo.surgery.preserve import device_of, dtype_of

__all__ = ["Call", "candidates", "given_call"]

_SIZES = (224, 64, 32, 256, 384, 640, 28, 512)
_TOKENS = (16, 8)


@dataclass(frozen=True)
class Call:
    """Arguments of one call of a host: ``host(*args, **kwargs)``."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Call":
        """Return the call with every tensor changed."""
        return Call(*tree_map_only(Tensor, change, (self.args, self.kwargs)))

    def __str__(self) -> str:
        shapes = ["x".join(map(str, t.shape)) for t in tree_leaves((self.args, self.kwargs)) if isinstance(t, Tensor)]
        return " and ".join(shapes) or "no tensors"


def given_call(host: nn.Module, inputs: object) -> Call:
    """Return the call that ``inputs`` stands for.

    A tensor; a shape such as ``(1, 3, 64, 64)``; a mapping of keyword arguments; or a tuple or list of positional
    arguments, in which a shape stands for a tensor of the host's type and device too.
    """
    if isinstance(inputs, Call):
        return inputs
    if isinstance(inputs, Mapping):
        return Call((), {str(key): _filled(host, value) for key, value in inputs.items()})
    if isinstance(inputs, tuple | list) and not _is_shape(inputs):
        return Call(tuple(_filled(host, value) for value in inputs), {})
    return Call((_filled(host, inputs),), {})


def candidates(host: nn.Module) -> Iterator[Call]:
    """Yield calls that ``host`` may accept, the most likely first."""
    dummies = getattr(host, "dummy_inputs", None)
    if isinstance(dummies, Mapping) and dummies:
        yield Call((), {str(key): value for key, value in dummies.items()})
    for layer in host.modules():
        shapes = _first_shapes(host, layer)
        if shapes is not None:
            yield from (Call((_made(host, layer, shape),), {}) for shape in shapes)
            return


def _first_shapes(host: nn.Module, layer: nn.Module) -> list[tuple[int, ...]] | None:
    """Return shapes to try for a host whose first layer is ``layer``, None if it is no layer that tells."""
    if isinstance(layer, nn.Conv2d):
        return [(1, layer.in_channels, size, size) for size in _sizes(host)]
    if isinstance(layer, nn.Conv1d):
        return [(1, layer.in_channels, size) for size in (64, 256)]
    if isinstance(layer, nn.Conv3d):
        return [(1, layer.in_channels, frames, size, size) for frames, size in ((8, 64), (16, 112), (16, 224))]
    if isinstance(layer, nn.Embedding):
        return [(1, tokens) for tokens in _TOKENS]
    if isinstance(layer, nn.Linear):
        return [*((1, tokens, layer.in_features) for tokens in _TOKENS), (2, layer.in_features)]
    return None


def _sizes(host: nn.Module) -> list[int]:
    """Return image sizes to try: what the host says of itself, then usual ones."""
    told: list[object] = []
    for name in ("pretrained_cfg", "default_cfg"):
        cfg = getattr(host, name, None)
        size = cfg.get("input_size") if isinstance(cfg, Mapping) else None
        told += list(size)[-1:] if isinstance(size, Sequence) else []
    for owner in (host, getattr(host, "config", None)):
        told += [getattr(owner, "image_size", None), getattr(owner, "img_size", None)]
    return list(dict.fromkeys([size for size in told if isinstance(size, int)] + list(_SIZES)))


def _made(host: nn.Module, layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    device = device_of(host)
    if isinstance(layer, nn.Embedding):
        return torch.zeros(shape, dtype=torch.long, device=device)
    return _ramp(shape, dtype_of(host), device)


def _filled(host: nn.Module, value: object) -> object:
    if _is_shape(value):
        return _ramp(tuple(value), dtype_of(host), device_of(host))  # type: ignore[arg-type]
    return value


def _ramp(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers from -1 to 1, which cost the caller no random state."""
    return torch.linspace(-1, 1, math.prod(shape), device=device).reshape(shape).to(dtype)


def _is_shape(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) > 1 and all(type(size) is int for size in value)
