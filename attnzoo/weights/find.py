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
_GENERIC = frozenset(["weight", "bias", "weight.*", "*"])
_MIN_SHARE = 0.3  # of a dialect's lines that must be there


@dataclass(frozen=True)
class Place:
    """A dotted path below which all tensors have names of one dialect of one block."""

    site: str
    entry: Entry
    dialect: Dialect


class NameIndex:
    """The names of a checkpoint, by what they end with. All numbers are one: ``fc.0.weight`` is ``fc.#.weight``."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(names)
        self.sites_of: dict[str, set[str]] = {}
        for name in self.names:
            parts = name.split(".")
            for cut in range(len(parts)):
                site = ".".join(parts[:cut])
                end = [_plain(p) for p in parts[cut:]]
                self._add(".".join(end), site)
                for kept in range(1, min(len(end), 4)):
                    self._add(".".join([*end[:kept], "*"]), site)

    def _add(self, end: str, site: str) -> None:
        self.sites_of.setdefault(end, set()).add(site)

    def below(self, site: str) -> list[str]:
        """Return the names below ``site``, without it."""
        if not site:
            return self.names
        start = bisect_left(self.names, f"{site}.")
        stop = bisect_left(self.names, f"{site}/")  # "/" is the character after "."
        return [n[len(site) + 1 :] for n in self.names[start:stop]]


def _plain(part: str) -> str:
    return "#" if part.isdigit() or part.startswith("{") else part


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
    tokens = {".".join(map(_plain, token.split("."))) for token in _TOKEN.findall(text)} - _GENERIC
    return not tokens.isdisjoint(index.sites_of)


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
            end = ".".join(map(_plain, key.split(".")))
            if end not in _GENERIC:
                found |= index.sites_of.get(end, set())
        for site in found:
            hits[site] = hits.get(site, 0) + 1
    accounted = _regex(tuple(k for keys in lines for k in keys), tuple(dialect.ignore))
    enough = _MIN_SHARE * len(lines)
    return {s for s, count in hits.items() if count >= enough and _all_match(accounted, index.below(s))}


def _all_match(accounted: re.Pattern[str], names: list[str]) -> bool:
    return all(accounted.match(n) or is_counter_name(n) for n in names)


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
