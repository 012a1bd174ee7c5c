"""A host as a text tree, with the shapes at its sites and the inserted blocks marked."""

from collections.abc import Iterator

from torch import nn

from attnzoo.surgery.probing import Probe
from attnzoo.surgery.sites import STATION, host_modules
from attnzoo.surgery.station import Inserted

__all__ = ["site_lines", "tree_lines"]


def site_lines(host: nn.Module, seen: Probe) -> Iterator[tuple[str, str, str]]:
    """Yield name, class and output shape of every module that was called in the probe, in the host's order."""
    for name, module in host_modules(host):
        site = seen.sites.get(name)
        if site is not None and site.calls:
            yield name or ".", type(module).__name__, _shape(seen, name)


def tree_lines(host: nn.Module, seen: Probe | None = None, depth: int | None = None) -> Iterator[str]:
    """Yield the lines of the host's tree down to ``depth``; a line that starts with ``+`` is an inserted block."""
    yield f"  {type(host).__name__}"
    yield from _below(host, "", seen, 1, depth)


def _below(module: nn.Module, path: str, seen: Probe | None, level: int, depth: int | None) -> Iterator[str]:
    station = module._modules.get(STATION)
    for name, child in station.named_children() if station is not None else ():
        if isinstance(child, Inserted):
            yield f"+ {'  ' * level}[{name}: {type(child.block).__name__}, {child.extra_repr()}]"
    for name, child in module.named_children():
        if name == STATION:
            continue
        full = f"{path}.{name}" if path else name
        shape = _shape(seen, full) if seen is not None else ""
        marked = depth is not None and level >= depth and not _has_inserted(child)
        if depth is None or level <= depth or _has_inserted(child):
            yield f"  {'  ' * level}{name}: {type(child).__name__}{' ' + shape if shape else ''}"
        if not marked:
            yield from _below(child, full, seen, level + 1, depth)


def _has_inserted(module: nn.Module) -> bool:
    return any(isinstance(child, Inserted) for child in module.modules())


def _shape(seen: Probe, name: str) -> str:
    site = seen.sites.get(name)
    if site is None or not site.calls:
        return "not called" if site is not None else ""
    sight = site.after[0]
    times = f" x{site.calls}" if site.calls > 1 else ""
    return ("no tensor" if sight is None else "x".join(map(str, sight.shape))) + times
