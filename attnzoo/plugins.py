"""Entry points to plugins. Each plugin is loaded on its own; what is wrong with one is kept, and harms no other.

pluggy's own loader drops the second of two distributions that use one entry-point name, ignores a misspelt hook, and
lets one plugin that raises stop discovery. So the entry points are scanned here, each is loaded in its own ``try`` and
registered with a plugin manager of its own.
"""

import functools
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from attnzoo import hookspecs
from attnzoo.card import Card, CardFault, fold
from attnzoo.errors import AttnZooError, CardError, PluginError, did_you_mean
from attnzoo.project import read_permission

__all__ = ["Plugin", "discover", "installed_entry_points", "load_plugin", "where_from"]

_HEAVY = ("torch", "numpy", "transformers", "timm", "scipy", "pandas", "matplotlib")
_RESERVED = ("local",)  # the plugin name of blocks that `attnzoo.register` adds


@dataclass(frozen=True)
class Plugin:
    """An installed plugin: its cards and registry files, or the reason why it cannot be used.

    ``status`` is ``ok``, ``broken`` (``error`` and ``traceback`` say why), ``clash`` or ``blocked``. ``faults`` are bad
    cards of a plugin that works otherwise. ``seconds`` is the time that loading took, ``heavy`` the slow libraries that
    it was the first to import. ``missing_files`` are registry files that the plugin names and does not have.
    """

    name: str
    distribution: str
    version: str
    module: str
    status: str = "ok"
    cards: tuple[Card, ...] = ()
    faults: tuple[CardFault, ...] = ()
    registry_files: tuple[Path, ...] = ()
    error: str = ""
    traceback: str = ""
    seconds: float = 0.0
    heavy: tuple[str, ...] = ()
    missing_files: tuple[Path, ...] = ()
    manager: pluggy.PluginManager | None = None


def installed_entry_points() -> list[EntryPoint]:
    """Return the entry points of the group ``attnzoo``, in a stable order."""
    points = entry_points(group=hookspecs.GROUP)
    names = Counter(p.name for p in points)
    # Reading a distribution's name costs a file, so only entry points of one name are ordered by it.
    return sorted(points, key=lambda p: (p.name, _owner(p)[0] if names[p.name] > 1 else ""))


def discover(
    points: Iterable[EntryPoint] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> list[Plugin]:
    """Load the installed plugins that the environment and the project of ``folder`` admit (see `attnzoo.project`).

    Raises:
        PluginError: The project's file is not valid. A fault of a plugin is never raised.
    """
    points = installed_entry_points() if points is None else list(points)
    permission = read_permission(environ, folder)
    empty = [_empty(p) for p in points]
    refusals = [permission.refusal(p.name, p.distribution) for p in empty]
    admitted = [p for p, refusal in zip(empty, refusals, strict=True) if not refusal]
    counts = Counter(p.name for p in admitted)
    plugins = []
    for point, plugin, refusal in zip(points, empty, refusals, strict=True):
        if refusal:
            plugins.append(replace(plugin, status="blocked", error=refusal))
        elif counts[plugin.name] > 1:
            plugins.append(_clash(plugin, point.name, admitted))
        else:
            plugins.append(_loaded(point, plugin))
    return plugins


def load_plugin(point: EntryPoint) -> Plugin:
    """Import one plugin's module and call its hooks; never raises for a fault of the plugin."""
    return _loaded(point, _empty(point))


def _loaded(point: EntryPoint, plugin: Plugin) -> Plugin:
    start = time.perf_counter()
    before = {name for name in _HEAVY if name in sys.modules}
    try:
        _check_name(plugin.name)
        module = point.load()
        manager = _manager(module, plugin.distribution)
        cards = _listed(module, "attnzoo_cards", manager.hook.attnzoo_cards())
        files = [Path(f) for f in _listed(module, "attnzoo_registry_files", manager.hook.attnzoo_registry_files())]
        _check_cards(cards)
    except (Exception, SystemExit) as error:
        text = f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - start
        return replace(plugin, status="broken", error=text, traceback=traceback.format_exc(), seconds=seconds)
    good = _unique([c for c in cards if isinstance(c, Card)])
    return replace(
        plugin,
        cards=tuple(c for c in good if isinstance(c, Card)),
        faults=tuple(c for c in (*cards, *good) if isinstance(c, CardFault)),
        registry_files=tuple(f for f in files if f.exists()),
        missing_files=tuple(f for f in files if not f.exists()),
        seconds=time.perf_counter() - start,
        heavy=tuple(name for name in _HEAVY if name in sys.modules and name not in before),
        manager=manager,
    )


def _listed(module: Any, hook: str, batches: list[Any]) -> list[Any]:
    """Return what a hook of the module returned; pluggy leaves out a None, which is a forgotten ``return``."""
    if hasattr(module, hook) and not batches:
        message = f"{getattr(module, '__name__', module)}: {hook} returned None, expected a list; is a return missing?"
        raise PluginError(message)
    for batch in batches:
        if not isinstance(batch, list | tuple):
            message = f"{getattr(module, '__name__', module)}: {hook} returned {batch!r}, expected a list"
            raise PluginError(message)
    return [item for batch in batches for item in batch]


def where_from(distribution: str) -> str:
    """Return where an installed distribution came from: the address pip noted, else the folder it lies in."""
    try:
        found = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
    try:
        noted = json.loads(found.read_text("direct_url.json") or "{}")
    except ValueError:
        noted = {}
    editable = " (editable)" if noted.get("dir_info", {}).get("editable") else ""
    return f"{noted['url']}{editable}" if "url" in noted else str(found.locate_file(""))


def _check_name(name: str) -> None:
    if name in _RESERVED or "/" in name or not name:
        message = f"plugin name {name!r}: reserved or with a slash, expected another; rename the entry point"
        raise PluginError(message)


def _unique(cards: list[Card]) -> list[Card | CardFault]:
    """Keep the first of several cards with one name and contract version; the others become faults."""
    seen: dict[tuple[str, int], Card] = {}
    result: list[Card | CardFault] = []
    for card in cards:
        first = seen.setdefault((card.name, card.version), card)
        if first is card:
            result.append(card)
            continue
        message = (
            f"{card.path}: name {card.name!r}, version {card.version}: also in {first.path}, expected one card; "
            "rename one block, or raise its contract version"
        )
        result.append(CardFault(card.path or Path(card.name), CardError(message)))
    return result


def _owner(point: EntryPoint) -> tuple[str, str]:
    """Return name and version of the distribution that has an entry point."""
    if point.dist is None:
        return "unknown", ""
    facts = point.dist.metadata
    return facts["Name"] or "unknown", facts["Version"] or ""


def _empty(point: EntryPoint) -> Plugin:
    return Plugin(fold(point.name), *_owner(point), point.value)


def _clash(plugin: Plugin, name: str, others: Iterable[Plugin]) -> Plugin:
    owners = sorted({p.distribution for p in others if p.name == plugin.name})
    text = (
        f"plugin name {name!r} is used by {' and '.join(owners)}, expected one distribution; "
        f"uninstall one, or set ATTNZOO_BLOCK_PLUGINS={owners[-1]}"
    )
    return replace(plugin, status="clash", error=text)


def _manager(module: Any, distribution: str) -> pluggy.PluginManager:
    _check_hooks(module)
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(_hooks_only())
    manager.register(module, name=distribution)
    manager.check_pending()
    return manager


@functools.cache
def _hooks_only() -> ModuleType:
    """Return a namespace with the hooks alone; pluggy looks at every name of what it is given."""
    namespace = ModuleType("attnzoo_hooks")
    for name in hookspecs.HOOKS:
        setattr(namespace, name, getattr(hookspecs, name))
    return namespace


def _check_hooks(module: Any) -> None:
    """Refuse a misspelt hook, and a function named like a hook that lacks the marker."""
    where = module.__name__ if isinstance(module, ModuleType) else repr(module)
    for name in dir(module):
        marked = hasattr(getattr(module, name, None), f"{hookspecs.GROUP}_impl")
        if marked and name not in hookspecs.HOOKS:
            message = f"{where}: no hook {name!r}, expected one of {', '.join(hookspecs.HOOKS)}"
            raise PluginError(message + did_you_mean(name, hookspecs.HOOKS))
        if not marked and name.startswith("attnzoo_") and callable(getattr(module, name)):
            message = f"{where}: {name} is not marked as a hook; put @attnzoo.hookimpl above it, or rename it"
            raise PluginError(message)


def _check_cards(cards: Iterable[Any]) -> None:
    for card in cards:
        if not isinstance(card, Card | CardFault):
            message = f"attnzoo_cards returned {card!r}, expected cards; return attnzoo.read_cards('<package>')"
            raise PluginError(message)


def require_ok(plugin: Plugin) -> Plugin:
    """Return ``plugin``, or raise what is wrong with it."""
    if plugin.status == "ok":
        return plugin
    message = f"plugin {plugin.name!r} ({plugin.distribution} {plugin.version}): {plugin.error}"
    raise PluginError(message) from AttnZooError(plugin.traceback)
