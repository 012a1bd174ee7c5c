"""The registry: names to cards to classes. A value, not a global; `default_registry` holds the one of this process."""

import functools
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from attnzoo.card import DOMAINS, Card, fold
from attnzoo.errors import AmbiguousName, NameNotFound, did_you_mean, near_matches
from attnzoo.plugins import Plugin, discover

__all__ = ["Entry", "Registry", "add_card", "default_registry", "set_default_registry"]


@dataclass(frozen=True)
class Entry:
    """A block on offer: its card and the plugin that has it."""

    card: Card
    plugin: Plugin

    @property
    def id(self) -> str:
        """The canonical name, ``plugin/name``."""
        return f"{self.plugin.name}/{self.card.name}"


@dataclass(frozen=True)
class Registry:
    """The blocks of some plugins, by name. Names are compared folded: ``Squeeze_Excite`` is ``squeeze-excite``."""

    plugins: tuple[Plugin, ...] = ()

    @functools.cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every block in its newest contract version, ordered by id."""
        newest: dict[str, Entry] = {}
        for plugin in self.plugins:
            for card in plugin.cards:
                entry = Entry(card, plugin)
                if entry.id not in newest or newest[entry.id].card.version < card.version:
                    newest[entry.id] = entry
        return tuple(newest[id] for id in sorted(newest))

    @functools.cached_property
    def _by_name(self) -> dict[str, tuple[Entry, ...]]:
        table: dict[str, list[Entry]] = {}
        for entry in self.entries:
            for short in dict.fromkeys([entry.card.name, *map(fold, entry.card.aliases)]):
                for name in (short, f"{entry.plugin.name}/{short}"):
                    table.setdefault(name, []).append(entry)
        return {name: tuple(found) for name, found in table.items()}

    def find(self, name: str) -> Entry:
        """Return the block called ``name``: a full id, a short name or an alias.

        Raises:
            NameNotFound: No such block; the text has near matches, broken plugins, or the line that installs it.
            AmbiguousName: Several plugins offer it; the text has their ids.
        """
        if not isinstance(name, str):
            message = f"block {name!r}: of type {type(name).__name__}, expected a name as text"
            raise NameNotFound(message)
        found = self._by_name.get(name) or self._by_name.get(fold(name), ())
        exact = [e for e in found if e.card.name == fold(name).rpartition("/")[2]]
        found = tuple(exact) or found
        if len(found) == 1:
            return found[0]
        if found:
            ids = " or ".join(repr(e.id) for e in found)
            message = f"block {name!r}: offered by {len(found)} plugins, expected one; write {ids}"
            raise AmbiguousName(message)
        raise NameNotFound(self._not_found(name))

    def pinned(self, name: str, version: int | None) -> "Registry":
        """Return this registry with the block ``name`` in contract version ``version`` (None: the newest) only.

        A plugin may keep the card of an older formula beside the new one, under the same name, so that old specs build.

        Raises:
            NameNotFound: No such block, or its plugin has no such version; the text says which it has.
        """
        entry = self.find(name)
        if version in (None, entry.card.version):
            return self
        versions = {c.version: c for c in entry.plugin.cards if c.name == entry.card.name}
        if version not in versions:
            has = " and ".join(str(v) for v in sorted(versions))
            mend = "install an older release" if (version or 0) < entry.card.version else "upgrade it"
            message = (
                f"block {entry.id!r}: contract version {version} was asked for, {entry.plugin.distribution} "
                f"{entry.plugin.version} has {has}; {mend}, or take `version:` out to use the newest formula"
            )
            raise NameNotFound(message)
        kept = tuple(c for c in entry.plugin.cards if c.name != entry.card.name or c.version == version)
        plugin = replace(entry.plugin, cards=kept)
        return Registry(tuple(plugin if p is entry.plugin else p for p in self.plugins))

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def in_domain(self, domain: str | None) -> Sequence[Entry]:
        """Return the blocks of one domain, or all."""
        if domain is None:
            return self.entries
        if domain not in DOMAINS:
            message = f"domain {domain!r}: expected one of {', '.join(DOMAINS)}{did_you_mean(str(domain), DOMAINS)}"
            raise NameNotFound(message)
        return [e for e in self.entries if e.card.domain == domain]

    def with_card(self, card: Card, plugin: str = "local") -> "Registry":
        """Return this registry with one more card under the plugin name ``plugin``; one of the same id is replaced."""
        old = next((p for p in self.plugins if p.name == plugin), Plugin(plugin, "this process", "", ""))
        kept = [c for c in old.cards if c.name != card.name]
        others = [p for p in self.plugins if p.name != plugin]
        return Registry((*others, replace(old, cards=(*kept, card))))

    def _not_found(self, name: str) -> str:
        parts = [f"no block named {name!r}"]
        near = near_matches(name, self._by_name) if "/" in name else near_matches(name, self._short_names())
        if near:
            parts.append(f"did you mean {' or '.join(map(repr, near))}?")
        left_out = [p for p in self.plugins if p.status == "blocked"]
        if install := _install_line(name, {p.distribution for p in self.plugins}):
            parts.append(install)
        parts.extend(
            f"plugin {p.name!r} ({p.distribution}) cannot be used: {p.error} (see: attnzoo doctor)"
            for p in self.plugins
            if p.status in ("broken", "clash")
        )
        parts.extend(
            f"the card {fault.path.name} of plugin {p.name!r} cannot be used: {fault.error}"
            for p in self.plugins
            for fault in p.faults
            if fold(fault.path.stem) == fold(name.rpartition("/")[2])
        )
        parts.extend(f"plugin {p.name!r} ({p.distribution}) is not loaded: {p.error}" for p in left_out)
        if not self.entries and not self.plugins:
            parts.append("no plugin with blocks is installed; pip install attnzoo-vision attnzoo-sequence")
        elif len(parts) == 1:
            parts.append("see: attnzoo list")
        return "; ".join(parts)

    def _short_names(self) -> list[str]:
        return [n for n in self._by_name if "/" not in n]


def _install_line(name: str, installed: Collection[str]) -> str:
    """Return the line that installs the plugin which is known to have the block, or an empty string."""
    from attnzoo.weights.catalogue import known_plugins

    for known in known_plugins():
        names = {fold(b) for b in known.blocks}
        if known.distribution not in installed and fold(name) in names | {f"{known.name}/{b}" for b in names}:
            return f"it is in {known.distribution}, which is not installed; pip install {known.distribution}"
    return ""


@dataclass
class _Holder:
    registry: Registry | None = None
    lock: Any = field(default_factory=threading.RLock)


@functools.cache
def _holder() -> _Holder:
    return _Holder()


def default_registry(discoverer: Callable[[], Sequence[Plugin]] | None = None) -> Registry:
    """Return this process's registry; the installed plugins are discovered when it is first asked for."""
    holder = _holder()
    if holder.registry is None:
        with holder.lock:
            if holder.registry is None:
                holder.registry = Registry(tuple((discoverer or discover)()))
            return holder.registry
    return holder.registry


def set_default_registry(registry: Registry | None) -> Any:
    """Replace this process's registry and return the old one; None lets it be discovered anew."""
    holder = _holder()
    with holder.lock:
        old, holder.registry = holder.registry, registry
    return old


def add_card(card: Card, plugin: str = "local") -> None:
    """Add a card to this process's registry; threads that do so at once do not undo each other."""
    with _holder().lock:
        set_default_registry(default_registry().with_card(card, plugin))
