"""From an order ("this block there") and a probe to a module that is known to work at its site."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from attnzoo.errors import SpecError, SurgeryError
from attnzoo.surgery.dry_run import dry_run
from attnzoo.surgery.layout import Layouts, View, channels_of, make_view, token_grid
from attnzoo.surgery.probing import Seen, Sight
from attnzoo.surgery.sites import At
from attnzoo.surgery.station import POSITIONS, Inserted, Place, Position, Station

__all__ = ["Make", "Order", "Planned", "Site", "Trials", "plan"]

_SHOWN_AS = {"map": "nchw", "tokens": "nlc"}
_BLOCKS_TAKE = {"nhwc": "nchw", "nthwc": "ncthw"}


@dataclass(frozen=True)
class Site:
    """What a factory is told about the place its block goes to.

    ``shape`` is that of the tensor at the site, ``shown`` that of the block's view of it, ``out_shape`` that of what
    is to come back in the site's layout.
    """

    name: str
    class_name: str
    position: Position
    shape: tuple[int, ...]
    layout: str
    channels: int
    out_shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    shown: tuple[int, ...] = ()


Make = Callable[[Site], nn.Module]


@dataclass(frozen=True)
class Order:
    """What to insert and where.

    Attributes:
        make: A module, or a function from a :class:`Site` to one.
        at: Which modules, see :func:`attnzoo.surgery.select`.
        position: ``"before"``, ``"after"`` or ``"replace"``.
        identity: Add a gate of zeros: the host's output is at first what it was.
        name: Name of the block at its site; by default its class in lower case.
        accepts: Layout the block takes (``"nchw"``), if that is known.
        view: Show tokens to the block as a ``"map"``, or a map as ``"tokens"``.
        layout: Layout at the site, where the judgement of it is wrong.
        grid: Height and width of the map of tokens, where it is not square.
        describe: Tells what a block was built from; kept with the inserted weights.
    """

    make: Make | nn.Module
    at: At
    position: Position = "after"
    identity: bool = False
    name: str | None = None
    accepts: str | None = None
    view: Literal["map", "tokens"] | None = None
    layout: str | None = None
    grid: tuple[int, int] | None = None
    describe: Callable[[nn.Module], Mapping[str, Any] | None] | None = None


@dataclass(frozen=True)
class Planned:
    """A tried module that can be attached to ``module`` of the host, and what it costs a call."""

    module: nn.Module
    inserted: Inserted
    calls: int
    flops: int


def plan(host: nn.Module, order: Order, seen: Seen, layouts: Layouts, trials: "Trials") -> Planned:
    """Return the block of ``order`` for the site ``seen``, tried.

    Raises:
        SurgeryError: The block does not fit the site.
    """
    site = _site(order, seen, layouts)
    view = _view(order, site)
    site = replace(site, shown=view.shape(site.shape))
    block = _made(order.make, site)
    name = _checked_name(order.name or re.sub(r"\W", "_", type(block).__name__).lower())
    place = Place(
        site=site.name,
        site_class=seen.class_name,
        name=name,
        position=order.position,
        slot=_sight(order, seen).slot,
        shape=site.shape,
        out_shape=site.out_shape,
        view=view,
        identity=order.identity,
        spec=order.describe(block) if order.describe else None,
    )
    module = host.get_submodule(site.name)
    inserted = Inserted(block, place).to(device=site.device, dtype=site.dtype)
    flops = trials.flops(inserted, site)
    return Planned(module, inserted.train(module.training), seen.calls, flops)


def _made(make: Make | nn.Module, site: Site) -> nn.Module:
    """Return the block for ``site``; a block that refuses what the site is, is refused there by name."""
    try:
        block = make if isinstance(make, nn.Module) else make(site)
    except (SpecError, SurgeryError):
        raise
    except ValueError as error:
        message = f"site {site.name!r} ({site.layout} {site.shape}): {error}"
        raise SurgeryError(message) from error
    if not isinstance(block, nn.Module):
        message = f"site {site.name!r}: the factory gave {type(block).__name__}, an nn.Module was expected"
        raise SurgeryError(message)
    return block


class Trials:
    """Tries blocks at sites with fake tensors; equal blocks at equal sites once."""

    def __init__(self) -> None:
        self._flops: dict[object, int] = {}

    def flops(self, inserted: Inserted, site: Site) -> int:
        """Return the FLOPs of one call.

        Raises:
            SurgeryError: The block cannot take the site's tensor, or gives one of another shape or type.
        """
        shapes = tuple((name, tuple(value.shape)) for name, value in inserted.state_dict().items())
        key = (repr(inserted), shapes, site.shape, site.out_shape, inserted.place.view, site.dtype)
        if key not in self._flops:
            self._flops[key] = _try(inserted, site)
        return self._flops[key]


def _try(inserted: Inserted, site: Site) -> int:
    try:
        return _run(inserted, site, faked=True)
    except Exception:  # not every block can be faked: what counts is whether it runs
        pass
    try:
        return _run(inserted, site, faked=False)
    except SurgeryError:
        raise
    except Exception as error:
        block = type(inserted.block).__name__
        message = f"site {site.name!r}: {block} cannot take its tensor {site.layout} {site.shape}: {error}"
        raise SurgeryError(message) from error


def _run(inserted: Inserted, site: Site, faked: bool) -> int:
    with dry_run(inserted, faked) as (counter, _):
        y = inserted(torch.zeros(site.shape, dtype=site.dtype, device=site.device))
        _check_output(inserted, site, y)
        return counter.get_total_flops()


def _check_output(inserted: Inserted, site: Site, y: object) -> None:
    block = type(inserted.block).__name__
    if not isinstance(y, torch.Tensor):
        message = f"site {site.name!r}: {block} gave {type(y).__name__}, a tensor was expected"
        raise SurgeryError(message)
    if tuple(y.shape) != site.out_shape:
        message = f"site {site.name!r}: {block} gave shape {tuple(y.shape)}, {site.out_shape} was expected there"
        raise SurgeryError(message)
    if y.dtype != site.dtype:
        message = f"site {site.name!r}: {block} gave {y.dtype}, {site.dtype} was expected there"
        raise SurgeryError(message)


def _site(order: Order, seen: Seen, layouts: Layouts) -> Site:
    sight = _sight(order, seen)
    layout = order.layout or layouts.of(seen.name, sight.shape)
    if len(layout) != len(sight.shape) or "c" not in layout:
        message = f"site {seen.name!r}: layout {layout!r} does not fit the shape {sight.shape}"
        raise SurgeryError(message)
    channels = channels_of(layout, sight.shape)
    out_shape = sight.shape
    if order.position == "replace":
        out_shape = _replaceable(order, seen).shape
    return Site(
        seen.name, seen.class_name, order.position, sight.shape, layout, channels, out_shape, sight.dtype, sight.device
    )


def _sight(order: Order, seen: Seen) -> Sight:
    """Return what the block will get at the site.

    Raises:
        SurgeryError: The module was not called, takes or returns no tensor, or ones of several numbers of channels.
    """
    if order.position not in POSITIONS:
        message = f"site {seen.name!r}: position={order.position!r}, one of {', '.join(POSITIONS)} was expected"
        raise SurgeryError(message)
    if not seen.calls:
        message = (
            f"site {seen.name!r} ({seen.class_name}): the host did not call it, so a block there would never run; "
            "choose a module that is called"
        )
        raise SurgeryError(message)
    sights = seen.after if order.position == "after" else seen.before
    first = sights[0]
    verb = "returned" if order.position == "after" else "was given"
    if first is None or any(sight is None for sight in sights):
        message = f"site {seen.name!r} ({seen.class_name}): it {verb} no tensor, so no block can go there"
        raise SurgeryError(message)
    kinds = {(len(sight.shape), sight.shape[1], sight.slot) for sight in sights if sight is not None}
    if len(kinds) > 1 and len({sight.shape for sight in sights if sight is not None}) > 1:
        shapes = sorted({sight.shape for sight in sights if sight is not None})
        message = (
            f"site {seen.name!r} ({seen.class_name}): it is called {seen.calls} times with tensors of several kinds "
            f"{', '.join(map(str, shapes))}; one block does not fit them, choose another module"
        )
        raise SurgeryError(message)
    return first


def _replaceable(order: Order, seen: Seen) -> Sight:
    if order.identity:
        message = f"site {seen.name!r}: identity does not go with position='replace', the old module is no longer run"
        raise SurgeryError(message)
    out = seen.after[0]
    if out is None or out.slot:
        message = f"site {seen.name!r} ({seen.class_name}): it returns no bare tensor, so a block cannot replace it"
        raise SurgeryError(message)
    return out


def _view(order: Order, site: Site) -> View:
    """Return the view the block gets, which makes tokens of a map, or a map of tokens, only when told to."""
    takes = order.accepts or _BLOCKS_TAKE.get(site.layout, site.layout)
    if order.view is not None:
        takes = takes if _kind(takes) == order.view else _SHOWN_AS[order.view]
    elif _kind(takes) != _kind(site.layout):
        hint = _hint(takes, site)
        message = f"site {site.name!r}: its tensor is {site.layout} {site.shape}, the block takes {takes}{hint}"
        raise SurgeryError(message)
    return make_view(site.layout, takes, site.shape, site.name, order.grid)


def _kind(layout: str) -> str:
    axes = set(layout) - set("nc")
    return {frozenset("l"): "tokens", frozenset("hw"): "map"}.get(frozenset(axes), layout)


def _hint(takes: str, site: Site) -> str:
    kinds = (_kind(site.layout), _kind(takes))
    if kinds == ("map", "tokens"):
        return "; view='tokens' shows it the map as tokens"
    if kinds == ("tokens", "map"):
        prefix, side = token_grid(site.shape[site.layout.index("l")], site.name)
        after = f" after {prefix} prefix tokens" if prefix else ""
        return f"; view='map' shows it the tokens as a map of {side} x {side}{after}"
    return "; choose another block or site"


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"\w+", name):
        message = f"name {name!r}: letters, digits and underscores were expected"
        raise SurgeryError(message)
    return f"{name}_" if hasattr(Station, name) or name == "training" else name
