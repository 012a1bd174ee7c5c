"""After the insertion: list, switch off and on, take out, exchange, and train only what was inserted."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn
from torch.nn import Parameter

from attnzoo.errors import NameNotFound, SurgeryError, near_matches
from attnzoo.surgery.layout import Layouts
from attnzoo.surgery.plan import Make, Order, Trials, plan
from attnzoo.surgery.preserve import device_of, dtype_of
from attnzoo.surgery.probing import Seen, Sight
from attnzoo.surgery.sites import STATION, glob_regex
from attnzoo.surgery.station import Inserted, Place, Station

__all__ = [
    "Insertion",
    "disable",
    "disabled",
    "enable",
    "inserted",
    "order_again",
    "parameter_groups",
    "remove",
    "swap",
    "train_only_inserted",
]


@dataclass(frozen=True)
class Insertion:
    """One inserted block: its key ``site/name``, the module that holds it, and the module it stands at."""

    key: str
    module: Inserted
    site: nn.Module

    @property
    def block(self) -> nn.Module:
        """The block itself."""
        return self.module.block

    @property
    def enabled(self) -> bool:
        """Whether the block runs when its site is called."""
        return self.module.enabled

    @property
    def linked(self) -> bool:
        """Whether the site still calls the block: another library may have dropped the site's hooks."""
        return self.module.linked(self.site)


def inserted(host: nn.Module, at: str | None = None) -> list[Insertion]:
    """Return what was inserted into ``host``, in the host's order; of these those that fit ``at``.

    ``at`` is a glob over sites as in :func:`select` (``layer1.*``), or over sites and names (``layer1.*/se``).

    Raises:
        NameNotFound: ``at`` is given and fits none.
    """
    found = list(_found(host))
    if at is None:
        return found
    site, _, name = at.partition("/")
    pattern = re.compile(glob_regex(site))
    places = [(item, item.module.place) for item in found]
    hits = [item for item, p in places if pattern.fullmatch(p.site) and fnmatchcase(p.name, name or "*")]
    if not hits:
        raise NameNotFound(_none_inserted(host, at, found))
    return hits


def disable(host: nn.Module, at: str | None = None) -> None:
    """Let the inserted blocks (those that fit ``at``) not run, until :func:`enable`."""
    _switch(inserted(host, at), enabled=False)


def enable(host: nn.Module, at: str | None = None) -> None:
    """Let the inserted blocks (those that fit ``at``) run again."""
    _switch(inserted(host, at), enabled=True)


@contextmanager
def disabled(host: nn.Module, at: str | None = None) -> Iterator[None]:
    """Switch inserted blocks off inside a ``with`` block; those that were off before stay off after it."""
    items = [item for item in inserted(host, at) if item.enabled]
    _switch(items, enabled=False)
    try:
        yield
    finally:
        _switch(items, enabled=True)


def remove(host: nn.Module, at: str | None = None) -> list[nn.Module]:
    """Take the inserted blocks (those that fit ``at``) out of ``host`` and return them; the host is as before."""
    items = inserted(host, at)
    for item in items:
        item.module.unlink(item.site)
        station = item.site._modules[STATION]
        assert isinstance(station, Station)
        del station._modules[item.module.place.name]
        if not station._modules:
            del item.site._modules[STATION]
    return [item.block for item in items]


def swap(host: nn.Module, block: Make | nn.Module, *, at: str, **changes: Any) -> list[nn.Module]:
    """Put another block where one was inserted, in the same turn, and return the old ones.

    Args:
        host: A host with inserted blocks.
        block: The new block (for one site), or a function from a :class:`Site` to one.
        at: Glob over sites or keys ``site/name``.
        changes: Other fields of the :class:`Order`, such as ``identity`` or ``spec``.

    Raises:
        NameNotFound: ``at`` fits no inserted block.
        SurgeryError: The new block does not fit; nothing is changed.
    """
    items = inserted(host, at)
    if isinstance(block, nn.Module) and len(items) > 1:
        message = f"at {at!r}: one module was given for {len(items)} sites, a function that makes one was expected"
        raise SurgeryError(message)
    trials = Trials()
    new = [_replanned(host, item, block, changes, trials) for item in items]
    for item, module in zip(items, new, strict=True):
        module.take_over(item.module, item.site)
        _rename(item.site._modules[STATION], item.module.place.name, module)
    return [item.block for item in items]


def train_only_inserted(host: nn.Module, also: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Freeze the host and return parameter groups for an optimizer: the inserted blocks, then the parts ``also``.

    Args:
        host: A host with inserted blocks.
        also: Globs over names of the host's parameters that go on learning (``"fc.*"``); a ``*`` spans dots.
    """
    kept = list(also)
    groups = parameter_groups(host)
    trained = [p for name, p in _host_parameters(host) if any(fnmatchcase(name, glob) for glob in kept)]
    for parameter in groups[0]["params"]:
        parameter.requires_grad_(False)
    for parameter in [*trained, *groups[1]["params"]]:
        parameter.requires_grad_(True)
    own = {"params": trained, "name": "host"}
    return [groups[1], own] if trained else [groups[1]]


def parameter_groups(host: nn.Module, **inserted_options: Any) -> list[dict[str, Any]]:
    """Return two parameter groups, the host's and the inserted blocks'; options (``lr=1e-3``) go to the second."""
    blocks = list(dict.fromkeys(p for item in _found(host) for p in item.module.parameters()))
    own = [parameter for _, parameter in _host_parameters(host)]
    return [{"params": own, "name": "host"}, {"params": blocks, "name": "inserted", **inserted_options}]


def _found(host: nn.Module) -> Iterator[Insertion]:
    for name, module in host.named_modules():
        station = module._modules.get(STATION)
        if isinstance(station, Station):
            for child_name, child in station.named_children():
                assert isinstance(child, Inserted)
                yield Insertion(f"{name}/{child_name}", child, module)


def _switch(items: Iterable[Insertion], *, enabled: bool) -> None:
    for item in items:
        item.module.switch(item.site, enabled=enabled)


def _host_parameters(host: nn.Module) -> Iterator[tuple[str, Parameter]]:
    for name, parameter in host.named_parameters():
        if STATION not in name.split("."):
            yield name, parameter


def order_again(place: Place, make: Make | nn.Module) -> Order:
    """Return the order that puts another block where ``place`` says."""
    view = place.view
    shown: Literal["map", "tokens"] | None = None
    if set(view.site) != set(view.block):
        shown = "tokens" if "l" in view.block else "map"
    return Order(
        make=make,
        at=place.site,
        position=place.position,
        identity=place.identity,
        accepts=view.block,
        view=shown,
        layout=view.site,
        grid=(view.height, view.width) if view.height else None,
    )


def _replanned(
    host: nn.Module, item: Insertion, block: Make | nn.Module, changes: dict[str, Any], trials: Trials
) -> Inserted:
    """Return the new block for the place of ``item``, tried on the tensor that was seen there."""
    place = item.module.place
    kind = (dtype_of(item.module, host), device_of(item.module, host))
    seen = Seen(place.site, place.site_class, [Sight(place.slot, place.shape, *kind)])
    seen.after.append(Sight(() if place.position == "replace" else place.slot, place.out_shape, *kind))
    new = plan(host, replace(order_again(place, block), **changes), seen, Layouts(host), trials).inserted
    others = [other for other in item.site.get_submodule(STATION)._modules if other != place.name]
    if new.place.name in others:
        message = f"site {place.site!r}: it already has an inserted block {new.place.name!r}; give name=…"
        raise SurgeryError(message)
    return new


def _rename(station: nn.Module | None, old: str, new: Inserted) -> None:
    """Put ``new`` where ``old`` was among the children of ``station``, under its own name."""
    assert station is not None
    children = [(new.place.name, new) if name == old else (name, child) for name, child in station._modules.items()]
    station._modules.clear()
    station._modules.update(children)


def _none_inserted(host: nn.Module, at: str, found: list[Insertion]) -> str:
    keys = [item.key for item in found]
    near = near_matches(at, [*keys, *(item.module.place.site for item in found)])
    if near:
        guess = f"; did you mean {' or '.join(map(repr, near))}?"
    elif keys:
        guess = f"; it has {', '.join(keys[:6])}{', …' if len(keys) > 6 else ''}"
    else:
        guess = "; nothing is inserted in it"
    return f"at {at!r}: no inserted block of {type(host).__name__} is there{guess}"
