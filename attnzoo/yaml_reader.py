"""Strict YAML with ``file:line:column`` for every node.

PyYAML's parser is used for its events only; the tree is built here, so that its traps are closed: ``1e-5`` is a
number, ``no`` and ``on`` are strings, a key given twice is an error, tags are refused, and neither aliases nor nesting
can blow up.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from attnzoo.errors import SpecError

__all__ = ["Node", "Where", "plain", "read_plain", "read_yaml", "read_yaml_file", "write_yaml"]

_MAX_CHARACTERS = 4_000_000
_MAX_DEPTH = 64
_MAX_NODES = 400_000

_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)$|0x[0-9a-fA-F]+$|0o[0-7]+$")
_FLOAT = re.compile(
    r"[-+]?(([0-9][0-9_]*)?\.[0-9]+([eE][-+]?[0-9]+)?|[0-9][0-9_]*\.([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+)$"
)
_SPECIAL = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a text: file, line and column, both from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Node:
    """A YAML node and where it stands: a scalar (``value``), a list (``items``) or a mapping (``entries``)."""

    where: Where
    kind: str  # "scalar" | "list" | "mapping"
    value: Any = None
    items: tuple["Node", ...] = ()
    entries: tuple[tuple["Node", "Node"], ...] = field(default=())

    def get(self, key: str) -> "Node | None":
        """Return the value node of ``key`` in a mapping, or None."""
        return next((value for name, value in self.entries if name.value == key), None)

    def describe(self) -> str:
        """Say what the node is, for an error: ``'abc'``, ``a list``, ``a mapping``."""
        if self.kind != "scalar":
            return f"a {self.kind}"
        return {None: "null", True: "true", False: "false"}[self.value] if _is_word(self.value) else repr(self.value)


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def plain(node: Node) -> Any:
    """Return the Python value of a node: dict, list, str, int, float, bool or None."""
    if node.kind == "mapping":
        return {key.value: plain(value) for key, value in node.entries}
    if node.kind == "list":
        return [plain(item) for item in node.items]
    return node.value


def read_yaml_file(path: Path | str) -> list[Node]:
    """Read the documents of a YAML file.

    Raises:
        SpecError: The file cannot be read or is not valid YAML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path with a null byte
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        message = f"{path}: cannot be read ({reason}), expected a UTF-8 YAML file"
        raise SpecError([message]) from error
    return read_yaml(text, str(path))


def read_yaml(text: str, source: str = "<text>") -> list[Node]:
    """Read the documents of a YAML text; ``source`` names it in errors.

    Raises:
        SpecError: The text is not valid YAML, or breaks one of the limits and rules of this module.
    """
    if len(text) > _MAX_CHARACTERS:
        message = f"{source}: {len(text)} characters, at most {_MAX_CHARACTERS} are read"
        raise SpecError([message])
    builder = _Builder(source)
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        documents = list(builder.documents(yaml.parse(text, Loader=loader)))
    except SpecError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        message = f"{place}: not valid YAML: {error.problem or error.context or 'unreadable'}"
        raise SpecError([message]) from error
    except (yaml.YAMLError, ValueError) as error:
        message = f"{source}: not valid YAML: {str(error).splitlines()[0]}"
        raise SpecError([message]) from error
    if builder.faults:
        raise SpecError(builder.faults)
    return documents


_TAGS = {
    yaml.ScalarNode: "tag:yaml.org,2002:str",
    yaml.SequenceNode: "tag:yaml.org,2002:seq",
    yaml.MappingNode: "tag:yaml.org,2002:map",
}


class _PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Composes nodes without PyYAML's resolver; `_data_of` gives scalars this module's meaning."""

    def resolve(self, kind: type, value: Any, implicit: Any) -> str:
        """Return one tag a kind: what a scalar means is decided later."""
        return _TAGS[kind]


def read_plain(text: str) -> Any:
    """Return the data of a trusted one-document YAML text, fast: for the cards of installed plugins.

    Raises:
        yaml.YAMLError: Not valid; `read_yaml` then says where.
    """
    loader = _PlainLoader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _data_of(node)
    except (RecursionError, TypeError) as error:  # an anchor that contains itself; a list as a key
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def _data_of(node: Any) -> Any:
    kind = type(node)
    if node.tag != _TAGS[kind] and node.tag != "!":
        message = f"tag {node.tag!r}"
        raise yaml.YAMLError(message)
    if kind is yaml.ScalarNode:
        return node.value if node.style else _resolve(node.value)
    if kind is yaml.SequenceNode:
        return [_data_of(item) for item in node.value]
    return {_data_of(key): _data_of(value) for key, value in node.value}


class _Builder:
    """Builds nodes from parser events and collects faults."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.faults: list[str] = []
        self.nodes = 0
        self.anchors: dict[str, tuple[Node, int]] = {}

    def documents(self, events: Iterator[Any]) -> Iterator[Node]:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors = {}
                yield self.node(next(events), events, 0)

    def where(self, event: Any) -> Where:
        return Where(self.source, event.start_mark.line + 1, event.start_mark.column + 1)

    def stop(self, event: Any, problem: str) -> SpecError:
        return SpecError([*self.faults, f"{self.where(event)}: {problem}"])

    def count(self, event: Any, number: int = 1) -> None:
        self.nodes += number
        if self.nodes > _MAX_NODES:
            raise self.stop(event, f"more than {_MAX_NODES} nodes after aliases are expanded")

    def node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        self.count(event)
        if depth > _MAX_DEPTH:
            raise self.stop(event, f"nested deeper than {_MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        tag = event.tag
        if tag is not None and tag not in ("!", "tag:yaml.org,2002:str"):
            self.faults.append(f"{self.where(event)}: tag {tag!r}, expected plain data without tags")
        before = self.nodes
        node = self.untagged(event, events, depth)
        if event.anchor:
            self.anchors[event.anchor] = (node, self.nodes - before + 1)
        return node

    def untagged(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        where = self.where(event)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(following := next(events), yaml.SequenceEndEvent):
                items.append(self.node(following, events, depth + 1))
            return Node(where, "list", items=tuple(items))
        if isinstance(event, yaml.MappingStartEvent):
            return Node(where, "mapping", entries=tuple(self.entries(events, depth)))
        quoted = event.style in ("'", '"', "|", ">") or event.tag is not None
        return Node(where, "scalar", event.value if quoted else _resolve(event.value))

    def entries(self, events: Iterator[Any], depth: int) -> Iterator[tuple[Node, Node]]:
        seen: dict[Any, Where] = {}
        while not isinstance(following := next(events), yaml.MappingEndEvent):
            key = self.node(following, events, depth + 1)
            value = self.node(next(events), events, depth + 1)
            if key.kind != "scalar":
                self.faults.append(f"{key.where}: a key that is {key.describe()}, expected a plain name")
                continue
            if not isinstance(key.value, str):  # a key is the text that is written: `1e3` and `null` too
                key = Node(key.where, "scalar", getattr(following, "value", str(key.value)))
            if key.value in seen:
                self.faults.append(
                    f"{key.where}: key {key.value!r} is given twice, first at line {seen[key.value].line}"
                )
            seen[key.value] = key.where
            yield key, value

    def alias(self, event: Any) -> Node:
        if event.anchor not in self.anchors:
            raise self.stop(event, f"alias {event.anchor!r} of an anchor that is not complete before it")
        node, size = self.anchors[event.anchor]
        self.count(event, size)
        return node


def _resolve(text: str) -> Any:
    """Return what a plain scalar means: YAML 1.2's core schema, with 1e-5 a number."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    if len(text) <= 64:
        if _INT.match(text):
            return int(text.replace("_", ""), 0)
        if _FLOAT.match(text):
            return float(text.replace("_", ""))
    return text


def write_yaml(value: Mapping[str, Any] | list[Any]) -> str:
    """Return ``value`` as YAML that :func:`read_yaml` reads back to the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Quotes strings that this module would read as something else, and writes floats so that they stay floats."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never write anchors."""
        return True


def _represent_str(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if _resolve(text) is not text else None
    if not text.isprintable():
        style = '"'  # the other styles fold line breaks, of which YAML knows more than one
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_float(dumper: yaml.SafeDumper, number: float) -> yaml.ScalarNode:
    text = repr(number)
    if "e" in text and "." not in text:
        # PyYAML's own float pattern wants a point before the exponent; without it the writer adds a tag.
        text = text.replace("e", ".0e")
    special = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
    return dumper.represent_scalar("tag:yaml.org,2002:float", special.get(text, text))


_Dumper.add_representer(str, _represent_str)
_Dumper.add_representer(float, _represent_float)
