"""Cards: the facts about a block that its code cannot say, read from YAML beside the code. No torch.

A card is read in two steps. Listing blocks needs only its head, the text above the top-level line ``dialects:``; the
dialects are read when they are first asked for. ``docs/reference/cards.md`` describes every key.
"""

import functools
import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from attnzoo.errors import AttnZooError, CardError, ExpressionError, SpecError, did_you_mean
from attnzoo.expression import names_in, parse_signature
from attnzoo.yaml_reader import plain, read_plain, read_yaml

__all__ = ["DOMAINS", "Card", "CardFault", "Dialect", "fold", "read_card", "read_cards", "read_cards_in"]

DOMAINS = ("channel", "spatial", "mixed", "self", "structure", "temporal", "sequence")

_REQUIRED = ("name", "class", "summary", "domain", "shape", "example")
_OPTIONAL = (
    "aliases",
    "version",
    "axes",
    "inputs",
    "maps",
    "examples",
    "paper",
    "origin",
    "notes",
    "exempt",
    "dialects",
)
_DIALECT_KEYS = ("origin", "golden", "when", "signature", "args", "axes", "tensors", "ignore", "absent", "call")
_CALL_KEYS = ("method", "inputs", "outputs", "maps", "unmapped")


def fold(name: str) -> str:
    """Return ``name`` as names are compared: lower case, dashes for underscores and spaces."""
    return name.strip().lower().replace("_", "-").replace(" ", "-")


@dataclass(frozen=True)
class Dialect:
    """How another library spells the arguments and tensors of a block. All fields are data from the card."""

    name: str
    origin: Mapping[str, Any] = field(default_factory=dict)
    golden: tuple[str, ...] = ()
    when: str | None = None
    signature: Mapping[str, Any] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Any] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    call: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CardFault:
    """A card that could not be read, kept so that it can be shown."""

    path: Path
    error: AttnZooError


@dataclass(frozen=True)
class Card:
    """The facts about one block.

    ``module`` and ``class_name`` say where the class is; nothing is imported until :meth:`load_class`.
    """

    name: str
    class_name: str
    module: str
    summary: str
    domain: str
    shape: str
    example: Mapping[str, Any]
    aliases: tuple[str, ...] = ()
    version: int = 1
    axes: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    maps: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[Mapping[str, Any], ...] = ()
    paper: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""
    exempt: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    cls: Any = None  # a class given directly (attnzoo.register); otherwise imported from ``module``

    @functools.cached_property
    def dialects(self) -> dict[str, Dialect]:
        """The dialects of the block by name.

        Raises:
            CardError: The part of the card below ``dialects:`` is not valid.
        """
        if self.path is None:
            return {}
        whole = _strict(self.path.read_text(encoding="utf-8"), self.path)
        table = whole.get("dialects") or {}
        if not isinstance(table, dict):
            message = f"{self.path}: dialects: {table!r}, expected a mapping of dialect names"
            raise CardError(message)
        return {name: _dialect(name, entry, self) for name, entry in table.items()}

    def load_class(self) -> Any:
        """Import and return the block's class.

        Raises:
            CardError: The module cannot be imported, or has no class of that name.
        """
        if self.cls is not None:
            return self.cls
        try:
            module = importlib.import_module(self.module)
        except Exception as error:
            message = f"block {self.name!r}: module {self.module} cannot be imported ({type(error).__name__}: {error})"
            raise CardError(message) from error
        if not isinstance(cls := getattr(module, self.class_name, None), type):
            classes = [k for k, v in vars(module).items() if isinstance(v, type)]
            message = (
                f"block {self.name!r}: module {self.module} has no class {self.class_name!r}"
                f"{did_you_mean(self.class_name, classes)}; mend `class:` in {self.path}"
            )
            raise CardError(message)
        return cls


def read_cards(package: str) -> "list[Card]":
    """Read every card below the package ``package`` without importing it; a bad card is left out (see `read_cards_in`).

    This is what a plugin's ``attnzoo_cards`` hook returns.
    """
    return read_cards_in(package)  # type: ignore[return-value]


def read_cards_in(package: str) -> list["Card | CardFault"]:
    """Read every ``*.yaml`` card below the package ``package``; a card that is not valid becomes a `CardFault`."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        message = f"read_cards({package!r}): no such package, expected the name of an importable package"
        raise CardError(message)
    found: list[Card | CardFault] = []
    for root in spec.submodule_search_locations:
        for path in sorted(Path(root).rglob("*.yaml")):
            if path.name == "registry.yaml":
                continue
            module = ".".join([package, *path.relative_to(root).with_suffix("").parts])
            try:
                found.append(read_card(path, module))
            except AttnZooError as error:
                found.append(CardFault(path, error))
    return found


def read_card(path: Path, module: str) -> Card:
    """Read the head of the card at ``path``; its class is in ``module``.

    Raises:
        CardError: The card is not valid; the text names file, key and what was expected.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: cannot be read ({error})"
        raise CardError(message) from error
    head = _head(text)
    try:
        data = read_plain(head)
    except yaml.YAMLError:
        data = None
    if not isinstance(data, dict) or any(not isinstance(k, str) for k in data):
        data = _strict(head, path)
    _check_head(data, path)
    return Card(
        name=data["name"],
        class_name=data["class"],
        module=module,
        summary=data["summary"],
        domain=data["domain"],
        shape=data["shape"],
        example=data["example"],
        aliases=tuple(data.get("aliases") or ()),
        version=data.get("version", 1),
        axes=data.get("axes") or {},
        inputs=data.get("inputs") or {},
        maps=data.get("maps") or {},
        examples=tuple(data.get("examples") or ()),
        paper=data.get("paper") or {},
        origin=data.get("origin") or {},
        notes=data.get("notes") or "",
        exempt=data.get("exempt") or {},
        path=path,
    )


def _head(text: str) -> str:
    if text.startswith("dialects:"):
        return ""
    cut = text.find("\ndialects:")
    return text if cut < 0 else text[: cut + 1]


def _strict(text: str, path: Path) -> dict[str, Any]:
    try:
        documents = read_yaml(text, str(path))
    except SpecError as error:
        raise CardError(str(error)) from error
    if len(documents) != 1 or documents[0].kind != "mapping":
        message = f"{path}: expected one mapping with the keys of a card"
        raise CardError(message)
    value: dict[str, Any] = plain(documents[0])
    return value


_TYPES: Mapping[str, tuple[type, str]] = {
    "name": (str, "a name"),
    "class": (str, "a class name"),
    "summary": (str, "a sentence"),
    "domain": (str, "a domain"),
    "shape": (str, "a shape contract"),
    "example": (dict, "a mapping of arguments"),
    "aliases": (list, "a list of names"),
    "version": (int, "a number from 1 on"),
    "axes": (dict, "a mapping of axes"),
    "inputs": (dict, "a mapping of inputs"),
    "maps": (dict, "a mapping of map names to shapes"),
    "examples": (list, "a list of argument mappings"),
    "paper": (dict, "a mapping"),
    "origin": (dict, "a mapping"),
    "notes": (str, "a text"),
    "exempt": (dict, "a mapping of check names to reasons"),
}


def _check_head(data: Mapping[str, Any], path: Path) -> None:
    missing = [k for k in _REQUIRED if k not in data]
    if missing:
        message = f"{path}: no {', '.join(map(repr, missing))}, expected the keys {', '.join(_REQUIRED)}"
        raise CardError(message)
    for key, value in data.items():
        if key not in _REQUIRED and key not in _OPTIONAL:
            message = f"{path}: unknown key {key!r}{did_you_mean(key, (*_REQUIRED, *_OPTIONAL))}"
            raise CardError(message)
        kind, words = _TYPES.get(key, (object, ""))
        if value is not None and not isinstance(value, kind):
            message = f"{path}: {key}: {value!r}, expected {words}"
            raise CardError(message)
    if data["domain"] not in DOMAINS:
        message = f"{path}: domain: {data['domain']!r}, expected one of {', '.join(DOMAINS)}"
        raise CardError(message + did_you_mean(data["domain"], DOMAINS))
    if fold(data["name"]) != data["name"] or not data["name"]:
        message = f"{path}: name: {data['name']!r}, expected lower case with dashes, as {fold(data['name'])!r}"
        raise CardError(message)


def _dialect(name: str, entry: Any, card: Card) -> Dialect:
    where = f"{card.path}: dialects.{name}"
    if not isinstance(entry, dict):
        message = f"{where}: {entry!r}, expected a mapping"
        raise CardError(message)
    _check_keys(where, entry, _DIALECT_KEYS)
    _check_keys(f"{where}.call", entry.get("call") or {}, _CALL_KEYS)
    try:
        signature = parse_signature(entry.get("signature") or "")
        _check_expressions(where, entry, signature)
    except ExpressionError as error:
        message = f"{where}: {error}"
        raise CardError(message) from error
    golden = entry.get("golden")
    return Dialect(
        name=name,
        origin=entry.get("origin") or {},
        golden=tuple(golden) if golden is not None else (card.name.replace("-", "_"),),
        when=entry.get("when"),
        signature=signature,
        args=entry.get("args") or {},
        axes=entry.get("axes") or {},
        tensors=entry.get("tensors") or {},
        ignore=tuple(entry.get("ignore") or ()),
        absent=tuple(entry.get("absent") or ()),
        call=entry.get("call") or {},
    )


def _check_keys(where: str, entry: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in entry:
        if key not in known:
            message = f"{where}: unknown key {key!r}{did_you_mean(key, known)}"
            raise CardError(message)


def _check_expressions(where: str, entry: Mapping[str, Any], signature: Mapping[str, Any]) -> None:
    """Refuse names in `args` and `when` that their signature does not have (`call` and `shapes` are allowed in `args`)."""
    if isinstance(when := entry.get("when"), str):
        for name in sorted(names_in(when) - set(signature)):
            message = f"{where}.when: no argument {name!r} in the signature{did_you_mean(name, signature)}"
            raise CardError(message)
    for ours, value in (entry.get("args") or {}).items():
        if isinstance(value, str):
            for name in sorted(names_in(value) - set(signature) - {"call", "shapes"}):
                message = f"{where}.args.{ours}: no argument {name!r} in the signature{did_you_mean(name, signature)}"
                raise CardError(message)
