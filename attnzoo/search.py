"""Search blocks by words: those of installed plugins, and those that ``registry.yaml`` knows."""

from collections.abc import Iterable
from dataclasses import dataclass

from attnzoo.card import fold
from attnzoo.registry import Registry
from attnzoo.weights.catalogue import KnownPlugin

__all__ = ["Hit", "search"]


@dataclass(frozen=True)
class Hit:
    """A block that was found. ``install`` is the distribution to install, or empty when it is installed."""

    id: str
    summary: str
    install: str = ""


def search(term: str, registry: Registry, known: Iterable[KnownPlugin]) -> list[Hit]:
    """Return the blocks in which every word of ``term`` occurs: names first, then the rest, each ordered by id.

    Looked at are names, aliases, summary, domain, notes and paper of installed blocks, and name, blocks and summary of
    plugins that are known but not installed.
    """
    words = [fold(w) for w in term.split()]
    found: list[tuple[bool, Hit]] = []
    for entry in registry:
        card = entry.card
        names = fold(" ".join([entry.id, *card.aliases]))
        texts = [names, card.summary, card.domain, card.notes, *(str(v) for v in card.paper.values())]
        if _has_all(words, texts):
            found.append((not _has_all(words, [names]), Hit(entry.id, card.summary)))
    installed = {p.distribution for p in registry.plugins}
    for plugin in known:
        if plugin.distribution in installed:
            continue
        about = [plugin.name, plugin.distribution, plugin.summary]
        for block in plugin.blocks or ("",):
            id = f"{plugin.name}/{block}"
            if _has_all(words, [*about, id]):
                found.append((not _has_all(words, [id]), Hit(id.rstrip("/"), plugin.summary, plugin.distribution)))
    return [hit for _, hit in sorted(found, key=lambda f: (f[0], bool(f[1].install), f[1].id))]


def _has_all(words: list[str], texts: Iterable[str]) -> bool:
    folded = fold(" ".join(texts))
    return all(w in folded for w in words)
