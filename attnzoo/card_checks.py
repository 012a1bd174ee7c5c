"""What a card may say: the keys of its head and of its dialects, and what each must hold."""

from collections.abc import Iterable, Mapping
from typing import Any

from attnzoo.errors import CardError, did_you_mean
from attnzoo.expression import names_in

__all__ = ["DOMAINS", "check_dialect", "check_expressions", "check_head", "fold"]

DOMAINS = ("channel", "spatial", "mixed", "self", "structure", "temporal", "sequence")

# What a key holds: its type, that of its items or values (None: any), and words for errors.
_Kind = tuple[type, type | tuple[type, ...] | None, str]
_REQUIRED: Mapping[str, _Kind] = {
    "name": (str, None, "a name"),
    "class": (str, None, "a class name"),
    "summary": (str, None, "a sentence"),
    "domain": (str, None, "a domain"),
    "shape": (str, None, "a shape contract"),
    "example": (dict, None, "a mapping of arguments"),
}
_OPTIONAL: Mapping[str, _Kind] = {
    "aliases": (list, str, "a list of names"),
    "version": (int, None, "a number from 1 on"),
    "axes": (dict, (str, int, dict), "a mapping of axes to expressions or rules"),
    "inputs": (dict, str, "a mapping of inputs to kinds"),
    "maps": (dict, str, "a mapping of map names to shapes"),
    "examples": (list, dict, "a list of argument mappings"),
    "paper": (dict, None, "a mapping"),
    "origin": (dict, None, "a mapping"),
    "notes": (str, None, "a text"),
    "exempt": (dict, str, "a mapping of check names to reasons"),
    "dialects": (object, None, ""),
}
_DIALECT: Mapping[str, _Kind] = {
    "origin": (dict, None, "a mapping"),
    "golden": (list, str, "a list of names of golden files"),
    "when": (str, None, "an expression"),
    "signature": (str, None, "a list of parameters as text"),
    "args": (dict, None, "a mapping of our arguments to expressions"),
    "axes": (dict, (str, int), "a mapping of axes to expressions"),
    "tensors": (dict, (str, list, dict), "a mapping of our tensors to theirs"),
    "ignore": (list, str, "a list of globs"),
    "absent": (list, str, "a list of globs"),
    "graph": (str, None, "a text"),
    "call": (dict, None, "a mapping"),
}
_CALL: Mapping[str, _Kind] = {
    "method": (str, None, "the name of a method"),
    "inputs": (dict, None, "a mapping of our inputs to expressions"),
    "outputs": (dict, None, "a mapping of their outputs to expressions"),
    "maps": (dict, None, "a mapping of their maps to expressions"),
    "unmapped": (dict, str, "a mapping of their maps to reasons"),
}


def fold(name: str) -> str:
    """Return ``name`` as names are compared: lower case, dashes for underscores and spaces."""
    return name.strip().lower().replace("_", "-").replace(" ", "-")


def check_head(data: Mapping[str, Any], where: str) -> None:
    """Refuse a head of a card whose keys or values are not those of cards; ``where`` begins the error.

    Raises:
        CardError: The first fault, with its key and what was expected.
    """
    missing = [k for k in _REQUIRED if k not in data]
    if missing:
        message = f"{where}: no {', '.join(map(repr, missing))}, expected the keys {', '.join(_REQUIRED)}"
        raise CardError(message)
    _check_kinds(where, data, {**_REQUIRED, **_OPTIONAL}, ": ", required=_REQUIRED)
    if data["domain"] not in DOMAINS:
        message = f"{where}: domain: {data['domain']!r}, expected one of {', '.join(DOMAINS)}"
        raise CardError(message + did_you_mean(data["domain"], DOMAINS))
    name = data["name"]
    if fold(name) != name or not name or "/" in name:
        wanted = fold(name).replace("/", "-") or "my-block"
        message = f"{where}: name: {name!r}, expected lower case with dashes, as {wanted!r}"
        raise CardError(message)
    if (data.get("version") or 1) < 1:
        message = f"{where}: version: {data['version']!r}, expected a number from 1 on"
        raise CardError(message)
    left, arrow, right = data["shape"].partition("->")
    if not (left.strip() and arrow and right.strip()):
        message = f"{where}: shape: {data['shape']!r}, expected 'inputs -> outputs', as in 'n c h w -> n c h w'"
        raise CardError(message)


def check_dialect(where: str, entry: Any) -> None:
    """Refuse a dialect whose keys or values are not those of dialects.

    Raises:
        CardError: The first fault, with its key and what was expected.
    """
    if not isinstance(entry, dict):
        message = f"{where}: {entry!r}, expected a mapping"
        raise CardError(message)
    _check_kinds(where, entry, _DIALECT)
    _check_kinds(f"{where}.call", entry.get("call") or {}, _CALL)


def _check_kinds(
    where: str, data: Mapping[str, Any], known: Mapping[str, _Kind], joint: str = ".", required: Iterable[str] = ()
) -> None:
    for key, value in data.items():
        if key not in known:
            message = f"{where}: unknown key {key!r}{did_you_mean(str(key), known)}"
            raise CardError(message)
        if value is None and key not in required:
            continue
        kind, inner, words = known[key]
        if not _is_kind(value, kind, inner):
            message = f"{where}{joint}{key}: {value!r}, expected {words}"
            raise CardError(message)


def _is_kind(value: Any, kind: type, inner: type | tuple[type, ...] | None) -> bool:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return False
    if isinstance(value, dict) and any(not isinstance(k, str) for k in value):
        return False
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return inner is None or all(isinstance(item, inner) for item in items)


def check_expressions(where: str, entry: Mapping[str, Any], signature: Mapping[str, Any]) -> None:
    """Refuse names in `args` and `when` that their signature does not have (`call` and `shapes` are allowed in `args`).

    Raises:
        CardError: There is such a name.
        ExpressionError: An expression cannot be read.
    """
    texts = [(f"{where}.when", entry.get("when"), set(signature))]
    known = {*signature, "call", "shapes"}
    texts += [(f"{where}.args.{ours}", value, known) for ours, value in (entry.get("args") or {}).items()]
    for place, text, allowed in texts:
        if isinstance(text, str):
            for name in sorted(names_in(text) - allowed):
                message = f"{place}: no argument {name!r} in the signature{did_you_mean(name, signature)}"
                raise CardError(message)
