"""Cards: the facts about a block that its code cannot say, read from YAML beside the code. No torch.

A card is read in two steps. Listing blocks needs only its head, the text above the top-level line ``dialects:``; the
dialects are read when they are first asked for. ``docs/reference/cards.md`` describes every key.
"""

import functools
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from attnzoo.card_checks import DOMAINS, check_dialect, check_expressions, check_head, fold
from attnzoo.errors import AttnZooError, CardError, ExpressionError, SpecError, did_you_mean
from attnzoo.expression import parse_signature
from attnzoo.yaml_reader import plain, read_plain, read_yaml

__all__ = ["DOMAINS", "Card", "CardFault", "Dialect", "card_of", "fold", "read_card", "read_cards", "read_cards_in"]


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
    graph: str = ""
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
        whole = _strict(_text_of(self.path), self.path)
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
        except (Exception, SystemExit) as error:
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
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError, TypeError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        message = f"read_cards({package!r}): no such package, expected the name of an importable package"
        raise CardError(message)
    found: list[Card | CardFault] = []
    for root in spec.submodule_search_locations:
        if not Path(root).is_dir():
            message = f"read_cards({package!r}): {root} is not a folder, expected cards in files; install it unzipped"
            raise CardError(message)
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
    head = _head(_text_of(path))
    try:
        data = read_plain(head)
    except yaml.YAMLError:
        data = None
    if not isinstance(data, dict) or any(not isinstance(k, str) for k in data):
        data = _strict(head, path)
    return _card(data, str(path), module=module, path=path)


def card_of(cls: Any, facts: Mapping[str, Any]) -> Card:
    """Return a card for a class given directly; ``facts`` are keys of a card, all with defaults taken from the class.

    Raises:
        CardError: A fact is not valid.
    """
    lines = (cls.__doc__ or "").strip().splitlines()
    usual: dict[str, Any] = {"name": fold(cls.__name__), "summary": lines[0] if lines else cls.__name__, "example": {}}
    data = {**usual, **facts, "class": cls.__name__}
    if isinstance(data["name"], str):
        data["name"] = fold(data["name"])
    if isinstance(data["example"], Mapping):
        data["example"] = dict(data["example"])
    return _card(data, f"register({cls.__name__})", module=cls.__module__, cls=cls)


def _card(data: Mapping[str, Any], where: str, **place: Any) -> Card:
    check_head(data, where)
    return Card(
        name=data["name"],
        class_name=data["class"],
        summary=data["summary"],
        domain=data["domain"],
        shape=data["shape"],
        example=data["example"],
        aliases=tuple(data.get("aliases") or ()),
        version=data.get("version") or 1,
        axes=data.get("axes") or {},
        inputs=data.get("inputs") or {},
        maps=data.get("maps") or {},
        examples=tuple(data.get("examples") or ()),
        paper=data.get("paper") or {},
        origin=data.get("origin") or {},
        notes=data.get("notes") or "",
        exempt=data.get("exempt") or {},
        **place,
    )


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: cannot be read ({error})"
        raise CardError(message) from error


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


def _dialect(name: str, entry: Any, card: Card) -> Dialect:
    where = f"{card.path}: dialects.{name}"
    check_dialect(where, entry)
    try:
        signature = parse_signature(entry.get("signature") or "")
        check_expressions(where, entry, signature)
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
        graph=entry.get("graph") or "",
        call=entry.get("call") or {},
    )
