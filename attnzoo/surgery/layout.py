"""The order of axes at a site, and the way from there to the order a block expects.

A layout is one letter an axis: n batch, c channels, h w height and width, t frames, l tokens.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor, nn

from attnzoo.errors import SurgeryError

__all__ = ["Layouts", "View", "channels_of", "make_view", "token_grid"]

_DEFAULT = {2: "nc", 3: "nlc", 4: "nchw", 5: "ncthw"}
_CHANNELS_LAST = {2: "nc", 3: "nlc", 4: "nhwc", 5: "nthwc"}
_CHANNELS_FIRST = {2: "nc", 3: "ncl", 4: "nchw", 5: "ncthw"}
_MAX_PREFIX = 8


class Layouts:
    """Judges the layout at the sites of one host by the layers in and around each site.

    Convolutions and batch norms tell that axis 1 holds the channels, linear layers and layer norms that the last does.
    What they do not tell is taken to be ``nchw``, or ``nlc`` for three axes.
    """

    def __init__(self, host: nn.Module) -> None:
        self._host = host
        self._evidence: dict[nn.Module, tuple[set[int], set[int]]] = {}

    def of(self, site: str, shape: tuple[int, ...]) -> str:
        """Return the layout of a tensor of ``shape`` at ``site``."""
        ndim = len(shape)
        if ndim not in _DEFAULT:
            message = f"site {site!r}: a tensor of {ndim} axes {shape}, 2 to 5 were expected; give layout=…"
            raise SurgeryError(message)
        for module in _outwards(self._host, site):
            if module not in self._evidence:
                self._evidence[module] = _channel_numbers(module)
            first, last = self._evidence[module]
            if (shape[1] in first) != (shape[-1] in last):
                return (_CHANNELS_FIRST if shape[1] in first else _CHANNELS_LAST)[ndim]
        return _DEFAULT[ndim]


def channels_of(layout: str, shape: tuple[int, ...]) -> int:
    """Return the size of the channel axis."""
    return shape[layout.index("c")]


def token_grid(tokens: int, site: str = "") -> tuple[int, int]:
    """Return ``(prefix, side)``: how many class or register tokens precede a square map of ``side * side`` tokens."""
    for prefix in range(min(_MAX_PREFIX, tokens - 1) + 1):
        side = isqrt(tokens - prefix)
        if side * side == tokens - prefix:
            return prefix, side
    message = (
        f"site {site!r}: {tokens} tokens are not a square map after up to {_MAX_PREFIX} prefix tokens; give grid=(h, w)"
    )
    raise SurgeryError(message)


@dataclass(frozen=True)
class View:
    """How the tensor of a site (layout ``site``) is shown to a block (layout ``block``) and back.

    ``nlc`` and ``nchw`` turn into each other: tokens are laid out as a map of ``height`` x ``width`` (another number of
    tokens as a square), after ``prefix`` class tokens that pass by the block; a map is read as tokens row by row.
    """

    site: str
    block: str
    prefix: int = 0
    height: int = 0
    width: int = 0

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape in which the block sees a tensor of ``shape``."""
        sizes = dict(zip(self.site, shape, strict=True))
        if "l" in self.site and "l" not in self.block:
            sizes |= dict(zip("hw", self._grid(sizes["l"] - self.prefix), strict=True))
        elif "l" in self.block and "l" not in self.site:
            sizes["l"] = math.prod(size for axis, size in sizes.items() if axis not in "nc")
        return tuple(sizes[axis] for axis in self.block)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return ``x`` in the block's layout, and the prefix tokens that do not go there."""
        if self.site == self.block:
            return x, None
        last = _permuted(x, self.site, _channels_last(self.site))
        prefix = None
        if "l" in self.site and "l" not in self.block:
            prefix = last[:, : self.prefix] if self.prefix else None
            last = last[:, self.prefix :]
            last = last.reshape(last.shape[0], *self._grid(last.shape[1]), last.shape[2])
        elif "l" in self.block and "l" not in self.site:
            last = last.flatten(1, -2)
        return _permuted(last, _channels_last(self.block), self.block), prefix

    def merge(self, y: Tensor, prefix: Tensor | None, like: Tensor) -> Tensor:
        """Return the block's output ``y`` in the layout of the site, where the block was given a view of ``like``."""
        if self.site == self.block:
            return y
        last = _permuted(y, self.block, _channels_last(self.block))
        if "l" in self.site and "l" not in self.block:
            last = last.flatten(1, -2)
            if prefix is not None:
                last = torch.cat((prefix.to(last.dtype), last), dim=1)
        elif "l" in self.block and "l" not in self.site:
            sizes = [like.shape[self.site.index(axis)] for axis in _channels_last(self.site)[1:-1]]
            last = last.reshape(last.shape[0], *sizes, last.shape[-1])
        return _permuted(last, _channels_last(self.site), self.site)

    def _grid(self, tokens: int) -> tuple[int, int]:
        if tokens == self.height * self.width:
            return self.height, self.width
        side = isqrt(tokens)
        if side * side != tokens:
            message = f"{tokens} tokens are neither {self.height} x {self.width} nor a square map"
            raise SurgeryError(message)
        return side, side


def make_view(
    site_layout: str, block_layout: str, shape: tuple[int, ...], site: str, grid: tuple[int, int] | None = None
) -> View:
    """Return the view from ``site_layout`` to ``block_layout`` for a tensor of ``shape``.

    Raises:
        SurgeryError: There is none, or the tokens do not form a map.
    """
    spatial_site, spatial_block = set(site_layout) - set("nc"), set(block_layout) - set("nc")
    if spatial_site == spatial_block:
        return View(site_layout, block_layout)
    if spatial_site == {"l"} and spatial_block == {"h", "w"}:
        tokens = shape[site_layout.index("l")]
        if grid is None:
            prefix, side = token_grid(tokens, site)
            return View(site_layout, block_layout, prefix, side, side)
        return View(site_layout, block_layout, tokens - grid[0] * grid[1], *grid)
    if spatial_block == {"l"} and spatial_site >= {"h", "w"}:
        return View(site_layout, block_layout)
    message = f"site {site!r}: its tensor is {site_layout!r} and the block takes {block_layout!r}: no way between them"
    raise SurgeryError(message)


def _channels_last(layout: str) -> str:
    return layout.replace("c", "") + "c"


def _permuted(x: Tensor, old: str, new: str) -> Tensor:
    return x if old == new else x.permute([old.index(axis) for axis in new])


def _outwards(host: nn.Module, site: str) -> Iterator[nn.Module]:
    """Yield the module at ``site``, then the modules around it, innermost first."""
    parts = site.split(".") if site else []
    for end in range(len(parts), -1, -1):
        yield host.get_submodule(".".join(parts[:end]))


def _channel_numbers(module: nn.Module) -> tuple[set[int], set[int]]:
    """Return the channel numbers of layers that work on axis 1, and of layers that work on the last axis."""
    first: set[int] = set()
    last: set[int] = set()
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            first |= {layer.in_channels, layer.out_channels}
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            first.add(layer.num_features)
        elif isinstance(layer, nn.GroupNorm):
            first.add(layer.num_channels)
        elif isinstance(layer, nn.Linear):
            last |= {layer.in_features, layer.out_features}
        elif isinstance(layer, nn.LayerNorm):
            last.add(layer.normalized_shape[-1])
    return first, last
