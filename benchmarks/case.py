"""What a benchmark of an image block is: its arguments at a size, its inputs, and its peers in other libraries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

Size = tuple[int, ...]  # N, C, H, W
Build = Callable[[int, int], nn.Module]  # channels and side of the map
Arguments = Callable[[int, int], Mapping[str, Any]]
Inputs = Callable[[Size], tuple[Tensor, ...]]

TWENTY_EIGHT = 512 * 28 * 28  # C * H * W, bound of the costly ones


@dataclass(frozen=True)
class Case:
    """A block: its name, its arguments, other libraries' forms, and the largest C * H * W that is measured."""

    name: str
    arguments: Arguments
    peers: Mapping[str, Build] = field(default_factory=dict)
    largest: int = 1 << 30
    inputs: Inputs = lambda size: (torch.randn(size),)
    maps: bool = True  # the first input is a map N C H W, which may be channels-last
    label: str = ""  # told in place of the name, where a block is measured twice
    module: type[nn.Module] | None = None  # built in place of a block

    @property
    def shown(self) -> str:
        """Return what the tables call it."""
        return self.label or self.name

    def admits(self, channels: int, side: int) -> bool:
        """Say whether this size is measured."""
        return channels * side * side <= self.largest


def tokens(size: Size) -> tuple[Tensor, ...]:
    """Return a map with the channels as its last axis, ``(N, H, W, C)``."""
    samples, channels, height, width = size
    return (torch.randn(samples, height, width, channels),)


def channels(**more: Any) -> Arguments:
    """Return arguments that are the channels and constants."""
    return lambda c, h: {"channels": c, **more}


def timm(name: str, module: str = "timm.layers", **more: Any) -> Build:
    """Return the builder of a class of timm that takes the channels first."""
    return lambda c, h: getattr(import_module(module), name)(c, **more)


def fcv(module: str, name: str, *more: Any, **named: Any) -> Build:
    """Return the builder of a class of fightingcv-attention that takes the channels first."""
    return lambda c, h: getattr(import_module(f"fightingcv_attention.attention.{module}"), name)(c, *more, **named)


def divisible(value: float, divisor: int = 8) -> int:
    """Return the multiple of ``divisor`` near ``value``, as timm rounds hidden units."""
    return max(divisor, int(value + divisor / 2) // divisor * divisor)


def hidden(share: float, **more: Any) -> Arguments:
    """Return the channels and hidden units that are a share of them, rounded as timm does."""
    return lambda c, h: {"channels": c, "hidden_channels": divisible(c * share), **more}


def peer_class(module: str, name: str, *arguments: Any, **more: Any) -> nn.Module:
    """Return an object of a class of another library."""
    block: nn.Module = getattr(import_module(module), name)(*arguments, **more)
    return block
