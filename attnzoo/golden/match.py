"""Which block and dialect a golden file belongs to, from its metadata."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attnzoo.card import Dialect, fold
from attnzoo.errors import CardError, DialectError, ExpressionError, GoldenError
from attnzoo.golden.files import GoldenFile
from attnzoo.registry import Entry, Registry
from attnzoo.weights.binding import applies, bind_arguments

__all__ = ["Match", "find_dialects"]

Match = tuple[Entry, Dialect, dict[str, Any]]


def find_dialects(golden: GoldenFile, registry: Registry) -> list[Match]:
    """Return the block, the dialect and their bound arguments for a golden file.

    Several dialects of one block are all returned, the one that the file is named after first: a reference that was
    changed after construction is told apart by its numbers alone.

    Raises:
        GoldenError: No dialect, or dialects of several blocks.
    """
    found, problems = _bound(golden, registry)
    named = [f for f in found if _is_named_after(golden.path, f[1])] or found
    if len({entry.id for entry, _, _ in named}) > 1:  # one class, copied into two plugins: the file says which is meant
        named = [f for f in named if fold(f[0].card.name) == fold(golden.metadata.get("block", ""))] or named
    if len({entry.id for entry, _, _ in named}) == 1:
        first = named[0][0].id
        return sorted((f for f in found if f[0].id == first), key=lambda f: not _is_named_after(golden.path, f[1]))
    what = ", ".join(f"{k} {golden.metadata.get(k, '')!r}" for k in ("block", "reference", "class", "file"))
    if found:
        names = " and ".join(f"{e.id} ({d.name})" for e, d, _ in found)
        message = f"{golden.path}: {len(found)} dialects fit ({names}), expected one; {what}"
        raise GoldenError(message)
    reasons = f" ({'; '.join(problems)})" if problems else ""
    message = f"{golden.path}: no dialect fits{reasons}; {what}; add one to the block's card"
    raise GoldenError(message)


def _bound(golden: GoldenFile, registry: Registry) -> tuple[list[Match], list[str]]:
    """Return the dialects whose signature takes the constructor call, and why others do not."""
    found: list[Match] = []
    problems: list[str] = []
    args, kwargs = golden.constructor
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        message = f"{golden.path}: constructor {golden.metadata['constructor']!r}, expected args (a list) and kwargs"
        raise GoldenError(message)
    for entry, dialect in _candidates(golden, registry, problems):
        try:
            bound = bind_arguments(dialect, args, kwargs)
            if applies(dialect, bound):
                found.append((entry, dialect, bound))
        except (DialectError, ExpressionError) as error:
            problems.append(f"{entry.id}: {error}")
    return found, problems


def _is_named_after(path: Path, dialect: Dialect) -> bool:
    """Return whether the reference in the file's name (``block--reference--case``) is the dialect's name.

    It tells apart two ways to call one class of one repository, which the metadata spell the same.
    """
    parts = path.stem.split("--")
    return len(parts) > 1 and fold(parts[1]) == fold(dialect.name)


def _candidates(golden: GoldenFile, registry: Registry, problems: list[str]) -> Iterator[tuple[Entry, Dialect]]:
    for entry in registry:
        try:
            dialects = entry.card.dialects
        except CardError as error:  # one bad card harms no other block
            problems.append(str(error))
            continue
        yield from ((entry, dialect) for dialect in dialects.values() if _fits(golden.metadata, dialect))


def _fits(metadata: Mapping[str, str], dialect: Dialect) -> bool:
    origin = dialect.origin
    wanted = {
        "code": re.sub(r"\s*\(.*\)$", "", metadata.get("reference", "")),
        "class": metadata.get("class", ""),
        "file": metadata.get("file", ""),
    }
    if metadata.get("block") not in dialect.golden:
        return False
    if str(origin.get("code", "")).removeprefix("github.com/").lower() != wanted["code"].lower():
        return False
    return all(str(origin.get(k) or wanted[k]) == wanted[k] or not wanted[k] for k in ("class", "file"))
