"""Entry points to plugins. Each plugin is loaded on its own; what is wrong with one is kept, and harms no other.

pluggy's own loader drops the second of two distributions that use one entry-point name, ignores a misspelt hook, and
lets one plugin that raises stop discovery. So the entry points are scanned here, each is loaded in its own ``try`` and
registered with a plugin manager of its own.
"""

import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from attnzoo import hookspecs
from attnzoo.card import Card, CardFault, fold
from attnzoo.errors import AttnZooError, PluginError, did_you_mean

__all__ = ["Plugin", "discover", "installed_entry_points", "load_plugin"]


@dataclass(frozen=True)
class Plugin:
    """An installed plugin: its cards and registry files, or the reason why it cannot be used.

    ``status`` is ``ok``, ``broken`` (``error`` and ``traceback`` say why), ``clash`` or ``blocked``. ``faults`` are bad
    cards of a plugin that works otherwise. ``seconds`` is the time that loading took.
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
    manager: pluggy.PluginManager | None = None


def installed_entry_points() -> list[EntryPoint]:
    """Return the entry points of the group ``attnzoo``, in a stable order."""
    return sorted(entry_points(group=hookspecs.GROUP), key=lambda e: (e.name, _distribution(e)))


def discover(points: Iterable[EntryPoint] | None = None, environ: Mapping[str, str] | None = None) -> list[Plugin]:
    """Load the installed plugins.

    ``ATTNZOO_PLUGINS`` is an allow-list of plugin or distribution names, comma-separated (set but empty: none);
    ``ATTNZOO_BLOCK_PLUGINS`` names plugins that are left out.
    """
    points = installed_entry_points() if points is None else list(points)
    allowed = _permission(os.environ if environ is None else environ)
    admitted = [p for p in points if allowed(p)]
    counts = Counter(fold(p.name) for p in admitted)
    plugins = []
    for point in points:
        if not allowed(point):
            plugins.append(replace(_empty(point), status="blocked", error="left out by ATTNZOO_PLUGINS or its like"))
        elif counts[fold(point.name)] > 1:
            plugins.append(_clash(point, admitted))
        else:
            plugins.append(load_plugin(point))
    return plugins


def load_plugin(point: EntryPoint) -> Plugin:
    """Import one plugin's module and call its hooks; never raises for a fault of the plugin."""
    plugin = _empty(point)
    start = time.perf_counter()
    try:
        module = point.load()
        manager = _manager(module, plugin.distribution)
        cards = [c for batch in manager.hook.attnzoo_cards() for c in batch]
        files = [Path(f) for batch in manager.hook.attnzoo_registry_files() for f in batch]
        _check_cards(cards)
    except (Exception, SystemExit) as error:
        text = f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - start
        return replace(plugin, status="broken", error=text, traceback=traceback.format_exc(), seconds=seconds)
    return replace(
        plugin,
        cards=tuple(c for c in cards if isinstance(c, Card)),
        faults=tuple(c for c in cards if isinstance(c, CardFault)),
        registry_files=tuple(f for f in files if f.exists()),
        seconds=time.perf_counter() - start,
        manager=manager,
    )


def _permission(environ: Mapping[str, str]) -> Callable[[EntryPoint], bool]:
    allow = environ.get("ATTNZOO_PLUGINS")
    allowed = None if allow is None else _names(allow)
    blocked = _names(environ.get("ATTNZOO_BLOCK_PLUGINS", ""))

    def allows(point: EntryPoint) -> bool:
        names = {fold(point.name), fold(_distribution(point))}
        return not names & blocked and (allowed is None or bool(names & allowed))

    return allows


def _names(text: str) -> set[str]:
    return {fold(n) for n in text.split(",") if n.strip()}


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown"


def _empty(point: EntryPoint) -> Plugin:
    version = point.dist.version if point.dist is not None else ""
    return Plugin(fold(point.name), _distribution(point), version or "", point.value)


def _clash(point: EntryPoint, points: Iterable[EntryPoint]) -> Plugin:
    owners = sorted({_distribution(p) for p in points if fold(p.name) == fold(point.name)})
    text = (
        f"plugin name {point.name!r} is used by {' and '.join(owners)}, expected one distribution; "
        f"uninstall one, or set ATTNZOO_BLOCK_PLUGINS={owners[-1]}"
    )
    return replace(_empty(point), status="clash", error=text)


def _manager(module: Any, distribution: str) -> pluggy.PluginManager:
    _check_hooks(module)
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=distribution)
    manager.check_pending()
    return manager


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
