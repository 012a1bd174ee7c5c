"""Find places in a checkpoint whose tensor names are those of a dialect. Names only: no torch, no tensor is read.

Cards are first compared as text, so that of a hundred cards only the few whose names occur in the file are parsed.
"""

import functools
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import translate

from attnzoo.card import Card, Dialect
from attnzoo.errors import CardError
from attnzoo.registry import Entry, Registry

__all__ = ["NameIndex", "Place", "find_places", "is_counter_name", "table_keys"]

_TOKEN = re.compile(r"[A-Za-z_]\w*(?:\.(?:\w+|\{\w+\}|\*))*")
_NUMBERED = re.compile(r"(?<![^.])(?:\d+|\{[^.]*)(?![^.])")
_GENERIC = frozenset(["weight", "bias", "weight.*", "*"])
_MIN_SHARE = 0.3  # of a dialect's lines that must be there


@dataclass(frozen=True)
class Place:
    """A dotted path below which all tensors have names of one dialect of one block."""

    site: str
    entry: Entry
    dialect: Dialect


class NameIndex:
    """The names of a checkpoint, by what they end with. All numbers are one: ``fc.0.weight`` is ``fc.#.weight``.

    The layers of a model are alike: thousands of names have a few dozen forms, and only forms are cut into ends.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(names)
        self._names_of: dict[str, list[str]] = {}
        for name in self.names:
            self._names_of.setdefault(plain_form(name), []).append(name)
        self._cuts: dict[str, list[tuple[str, int]]] = {}
        for form in self._names_of:
            parts = form.split(".")
            for cut in range(len(parts)):
                end = parts[cut:]
                for text in (".".join(end), *(".".join([*end[:k], "*"]) for k in range(1, min(len(end), 4)))):
                    self._cuts.setdefault(text, []).append((form, cut))
        self._sites: dict[str, frozenset[str]] = {}
        self._below: dict[str, tuple[str, ...]] = {}

    def has_any(self, ends: Iterable[str]) -> bool:
        """Say whether a name ends with one of ``ends``, which are plain forms."""
        return any(end in self._cuts for end in ends)

    def sites_of(self, end: str) -> frozenset[str]:
        """Return the paths below which there is the plain form ``end``, perhaps with ``.*`` at its own end."""
        if end not in self._sites:
            pairs = self._cuts.get(end, ())
            sites = (".".join(name.split(".")[:cut]) for form, cut in pairs for name in self._names_of[form])
            self._sites[end] = frozenset(sites)
        return self._sites[end]

    def below(self, site: str) -> tuple[str, ...]:
        """Return the names below ``site``, without it."""
        if site not in self._below:
            start = bisect_left(self.names, f"{site}.") if site else 0
            stop = bisect_left(self.names, f"{site}/") if site else len(self.names)  # "/" is the character after "."
            self._below[site] = tuple(n[len(site) + 1 if site else 0 :] for n in self.names[start:stop])
        return self._below[site]


def plain_form(name: str) -> str:
    """Return ``name`` with every number, and every hole of a card's line, as ``#``."""
    return _NUMBERED.sub("#", name)


def find_places(index: NameIndex, registry: Registry) -> Iterator[Place]:
    """Yield the places of every dialect of every block of ``registry``; cards that are not valid are left out."""
    for entry in registry:
        if not _may_occur(entry.card, index):
            continue
        try:
            dialects = list(entry.card.dialects.values())
        except CardError:
            continue
        for dialect in (d for d in dialects if not d.graph):
            for site in sorted(_sites(dialect, index)):
                yield Place(site, entry, dialect)


def _may_occur(card: Card, index: NameIndex) -> bool:
    """Say whether a name in the card's dialects, read as mere text, occurs in the file."""
    if card.path is None:
        return False
    _, _, text = card.path.read_text(encoding="utf-8").partition("\ndialects:")
    return index.has_any({plain_form(token) for token in set(_TOKEN.findall(text))} - _GENERIC)


def table_keys(dialect: Dialect) -> list[list[str]]:
    """Return, for every line of a dialect's table, the names of theirs in all its alternatives."""
    lines = []
    for right in dialect.tensors.values():
        options = right if isinstance(right, list) else [right]
        texts = [o if isinstance(o, str) else str(o.get("theirs", "")) if isinstance(o, dict) else "" for o in options]
        lines.append([k.strip() for text in texts for k in text.partition(":")[0].split(",") if k.strip()])
    return lines


def _sites(dialect: Dialect, index: NameIndex) -> set[str]:
    lines = table_keys(dialect)
    hits: dict[str, int] = {}
    for keys in lines:
        found: set[str] = set()
        for key in keys:
            end = plain_form(key)
            if end not in _GENERIC:
                found |= index.sites_of(end)
        for site in found:
            hits[site] = hits.get(site, 0) + 1
    accounted = _regex(tuple(k for keys in lines for k in keys), tuple(dialect.ignore))
    enough = _MIN_SHARE * len(lines)
    sites_of: dict[tuple[str, ...], list[str]] = {}
    for site in (s for s, count in hits.items() if count >= enough):
        sites_of.setdefault(index.below(site), []).append(site)
    fitting = (names for names in sites_of if all(accounted.match(n) or is_counter_name(n) for n in names))
    return {site for names in fitting for site in sites_of[names]}


def is_counter_name(name: str) -> bool:
    """Say whether ``name`` is a batch-norm step counter, which files may leave out."""
    return name.endswith("num_batches_tracked")


@functools.lru_cache(maxsize=512)
def _regex(keys: tuple[str, ...], ignored: tuple[str, ...]) -> re.Pattern[str]:
    patterns = [_key_pattern(k) for k in keys] + [translate(g) for g in ignored]
    return re.compile("|".join(f"(?:{p})" for p in patterns) or r"(?!)")


def _key_pattern(key: str) -> str:
    text = re.escape(key)
    text = re.sub(r"\\\{\w+\\\}", r"[^.]+", text)
    return text.replace(r"\*", r".+") + r"\Z"
