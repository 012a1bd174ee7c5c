"""Choose the modules of a host: by name, glob, regular expression, class, or a function."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from attnzoo.errors import NameNotFound, near_matches

__all__ = ["STATION", "At", "glob_regex", "host_modules", "select"]

STATION = "attnzoo"
"""Name of the child module under which a site keeps its inserted blocks."""

_One = str | re.Pattern[str] | type[nn.Module] | Callable[[str, nn.Module], bool]
At = _One | Iterable["At"]


_Modules = list[tuple[str, nn.Module]]


@dataclass(frozen=True)
class _Rule:
    """One way of choosing: how to speak of it, the names it finds among modules, and what comes near to it."""

    text: str
    find: Callable[[_Modules], Iterable[str]]
    hints: Callable[[nn.Module], list[str]]


def host_modules(host: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield ``(name, module)`` of ``host`` in its order, without what was inserted into it."""
    for name, module in host.named_modules():
        if STATION not in name.split("."):
            yield name, module


def select(host: nn.Module, at: At) -> list[str]:
    """Return the names of the modules that ``at`` chooses, in the host's order.

    A string is a name or a glob: ``*`` and ``?`` stay within one part of the dotted name, ``**`` spans any number of
    parts (``layer[1-4].*.bn3``, ``**.mlp``). ``re:PATTERN`` is a regular expression that matches the whole name,
    ``class:C2f`` every module of that class or of one derived from it, ``class:Bottleneck.bn3`` a part (a glob) of
    every such module. Also: a compiled regular expression, a class, a function ``(name, module) -> bool``, or several
    of these.

    Raises:
        NameNotFound: A rule chooses nothing; the text has near matches.
    """
    modules = list(host_modules(host))
    chosen: set[str] = set()
    for rule in map(_rule, _flat(at)):
        hits = list(rule.find(modules))
        if not hits:
            raise NameNotFound(_nothing(host, rule))
        chosen.update(hits)
    return [name for name, _ in modules if name in chosen]


def _flat(at: At) -> Iterator[_One]:
    if isinstance(at, str | re.Pattern | type) or callable(at):
        yield at
    elif isinstance(at, Iterable):
        for part in at:
            yield from _flat(part)
    else:
        message = f"at {at!r}: a name, glob, 're:…', 'class:…', class, function or list of these was expected"
        raise TypeError(message)


def _rule(at: _One) -> _Rule:
    if isinstance(at, re.Pattern):
        return _regex_rule(at, at.pattern)
    if isinstance(at, str):
        kind, _, rest = at.partition(":")
        if kind == "re":
            return _regex_rule(_compiled(rest), at)
        return _class_name_rule(rest, at) if kind == "class" else _glob_rule(at)
    if isinstance(at, type):
        return _class_rule(at)
    return _Rule(getattr(at, "__name__", repr(at)), lambda modules: [n for n, m in modules if at(n, m)], lambda _: [])


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        message = f"at 're:{pattern}': not a regular expression ({error})"
        raise NameNotFound(message) from None


def _regex_rule(pattern: re.Pattern[str], text: str) -> _Rule:
    def find(modules: _Modules) -> list[str]:
        return [name for name, _ in modules if pattern.fullmatch(name)]

    return _Rule(text, find, lambda host: _name_hints(host, text))


def _glob_rule(glob: str) -> _Rule:
    pattern = re.compile(glob_regex(glob))

    def find(modules: _Modules) -> list[str]:
        return [name for name, _ in modules if name == glob or pattern.fullmatch(name)]

    return _Rule(glob, find, lambda host: _name_hints(host, glob))


def _class_rule(wanted: type[nn.Module]) -> _Rule:
    def find(modules: _Modules) -> list[str]:
        return [name for name, module in modules if isinstance(module, wanted)]

    return _Rule(wanted.__name__, find, lambda host: _class_hints(host, wanted.__name__))


def _class_name_rule(wanted: str, text: str) -> _Rule:
    class_name, _, part = wanted.partition(".")
    pattern = re.compile(glob_regex(part))

    def find(modules: _Modules) -> Iterator[str]:
        for owner, module in modules:
            if any(base.__name__ == class_name for base in type(module).__mro__):
                below = [name for name, _ in host_modules(module) if pattern.fullmatch(name)] if part else [""]
                yield from (".".join(filter(None, (owner, name))) for name in below)

    return _Rule(text, find, lambda host: [f"class:{hint}" for hint in _class_hints(host, class_name)])


def glob_regex(glob: str) -> str:
    """Return the regular expression of a glob over dotted names."""
    parts = glob.split(".")
    regex = ""
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if part == "**":
            regex += ".+" if last else r"(?:[^.]+\.)*"
        else:
            regex += _part_regex(part) + ("" if last else r"\.")
    return regex


def _part_regex(part: str) -> str:
    pieces = re.split(r"(\*|\?|\[[^\]]+\])", part)
    return "".join(_piece_regex(piece) for piece in pieces)


def _piece_regex(piece: str) -> str:
    if piece == "*":
        return "[^.]*"
    if piece == "?":
        return "[^.]"
    if piece.startswith("[") and piece.endswith("]"):
        return "[" + re.sub(r"^!", "^", piece[1:-1]) + "]"
    return re.escape(piece)


def _nothing(host: nn.Module, rule: _Rule) -> str:
    hints = rule.hints(host)
    guess = f"; did you mean {' or '.join(repr(hint) for hint in hints)}?" if hints else ""
    return f"at {rule.text!r}: no module of {type(host).__name__} matches{guess or _outline(host)}"


def _outline(host: nn.Module) -> str:
    names = [name for name, _ in host.named_children()]
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return f"; its parts are {shown}" if names else "; it has no parts"


def _name_hints(host: nn.Module, pattern: str) -> list[str]:
    """Return globs or names near ``pattern`` that do choose something."""
    names = [name for name, _ in host_modules(host) if name]
    deeper = f"**.{pattern}"
    if not pattern.startswith(("re:", "**")) and any(re.fullmatch(glob_regex(deeper), name) for name in names):
        return [deeper]
    level = [name for name in names if name.count(".") == pattern.count(".")]
    by_last = {name.rpartition(".")[2]: name for name in reversed(names)}
    last = near_matches(pattern.rpartition(".")[2], by_last)
    return near_matches(pattern, level) or near_matches(pattern, names) or [by_last[hit] for hit in last]


def _class_hints(host: nn.Module, class_name: str) -> list[str]:
    return near_matches(class_name, {type(module).__name__ for _, module in host_modules(host)})
