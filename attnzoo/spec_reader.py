"""Reading specs: YAML to `Spec`, every fault with ``file:line:column``. Runs no code of a spec, imports no torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attnzoo.errors import SpecError, did_you_mean
from attnzoo.spec import BlockSpec, ChainSpec, Insertion, InsertSpec, ResidualSpec, Spec, SumSpec
from attnzoo.yaml_reader import Node, plain, read_yaml, read_yaml_file, write_yaml

__all__ = ["read_spec", "read_spec_text", "read_specs", "spec_from_data"]

_KINDS = ("block", "chain", "sum", "residual", "insert")
_BLOCK_KEYS = ("block", "args", "weights", "version")
_INSERTION_KEYS = ("at", "position", "identity", "name", "view")
_POSITIONS = ("after", "before", "replace")
_VIEWS = ("map", "tokens")


def read_spec(path: Path | str) -> Spec:
    """Read the one spec in a YAML file.

    Raises:
        SpecError: Every fault of the file, each as ``file:line:column: path: found, expected``.
    """
    specs = read_specs(path)
    if len(specs) != 1:
        message = f"{path}: {len(specs)} documents, expected one spec"
        raise SpecError([message])
    return specs[0]


def read_specs(path: Path | str) -> list[Spec]:
    """Read every spec of a YAML file, one a document."""
    return _specs(read_yaml_file(path))


def read_spec_text(text: str, source: str = "<text>") -> Spec:
    """Read the one spec in a YAML text; ``source`` names it in errors."""
    specs = _specs(read_yaml(text, source))
    if len(specs) != 1:
        message = f"{source}: {len(specs)} documents, expected one spec"
        raise SpecError([message])
    return specs[0]


def spec_from_data(data: Any, source: str = "<spec>") -> Spec:
    """Read a spec from Python data (nested dicts and lists)."""
    try:
        text = write_yaml(data)
    except Exception as error:
        message = f"{source}: {type(error).__name__}: {error}; expected plain data: dicts, lists, text, numbers"
        raise SpecError([message]) from error
    return read_spec_text(text, source)


def _specs(documents: list[Node]) -> list[Spec]:
    faults: list[str] = []
    specs = [spec for node in documents if (spec := _spec(node, "", faults, top=True)) is not None]
    if faults:
        raise SpecError(faults)
    return specs


def _spec(node: Node, path: str, faults: list[str], *, top: bool = False) -> Spec | None:
    if node.kind == "scalar" and isinstance(node.value, str):
        return BlockSpec(node.value, where=node.where)
    if node.kind != "mapping":
        faults.append(_fault(node, path, f"{node.describe()}, expected a mapping with one of {', '.join(_KINDS)}"))
        return None
    kinds = [k.value for k, _ in node.entries if k.value in _KINDS]
    if len(kinds) != 1:
        keys = [k.value for k, _ in node.entries]
        shown = ", ".join(map(repr, keys[:5])) + (", …" if keys[5:] else "")
        found = f"keys {', '.join(map(repr, kinds))} together" if kinds else f"keys {shown or 'none'}"
        hint = "" if kinds or not keys else did_you_mean(keys[0], _KINDS)
        faults.append(_fault(node, path, f"{found}, expected exactly one of {', '.join(_KINDS)}{hint}"))
        return None
    if kinds[0] == "insert" and not top:
        faults.append(_fault(node, path, "an insert inside another node, expected it at the top of a document"))
        return None
    return _READERS[kinds[0]](node, path, faults)


def _block(node: Node, path: str, faults: list[str], extra: tuple[str, ...] = ()) -> BlockSpec | None:
    _no_other_keys(node, path, (*_BLOCK_KEYS, *extra), faults)
    before = len(faults)
    name = _typed(node, "block", str, "a block name", path, faults)
    weights = _typed(node, "weights", str, "a weights name, path or address", path, faults)
    version = _typed(node, "version", int, "a contract version", path, faults)
    args = node.get("args")
    if args is not None and args.kind != "mapping" and not _is_null(args):
        faults.append(_fault(args, _join(path, "args"), f"{args.describe()}, expected a mapping of arguments"))
    if len(faults) > before:
        return None
    entries = args.entries if args is not None else ()
    places = {key.value: key.where for key, _ in entries}
    return BlockSpec(name, {k.value: plain(v) for k, v in entries}, weights, version, node.where, places)


def _nodes(kind: str, make: Callable[..., Spec]) -> Callable[[Node, str, list[str]], Spec | None]:
    def read(node: Node, path: str, faults: list[str]) -> Spec | None:
        _no_other_keys(node, path, (kind,), faults)
        items = node.get(kind)
        assert items is not None
        if items.kind != "list" or not items.items:
            found = "an empty list" if items.kind == "list" else items.describe()
            faults.append(_fault(items, _join(path, kind), f"{found}, expected a list of at least one node"))
            return None
        read_items = [_spec(n, f"{_join(path, kind)}[{i}]", faults) for i, n in enumerate(items.items)]
        return make(tuple(n for n in read_items if n is not None), where=node.where)

    return read


def _residual(node: Node, path: str, faults: list[str]) -> ResidualSpec | None:
    _no_other_keys(node, path, ("residual",), faults)
    inner = node.get("residual")
    assert inner is not None
    spec = _spec(inner, _join(path, "residual"), faults)
    return None if spec is None else ResidualSpec(spec, where=node.where)


def _insert(node: Node, path: str, faults: list[str]) -> InsertSpec | None:
    _no_other_keys(node, path, ("insert",), faults)
    items = node.get("insert")
    assert items is not None
    if items.kind != "list" or not items.items:
        found = "an empty list" if items.kind == "list" else items.describe()
        faults.append(_fault(items, _join(path, "insert"), f"{found}, expected a list of insertions"))
        return None
    read = [_insertion(n, f"{_join(path, 'insert')}[{i}]", faults) for i, n in enumerate(items.items)]
    return InsertSpec(tuple(i for i in read if i is not None), where=node.where)


def _insertion(node: Node, path: str, faults: list[str]) -> Insertion | None:
    if node.kind != "mapping":
        faults.append(_fault(node, path, f"{node.describe()}, expected a mapping with a node and `at`"))
        return None
    before = len(faults)
    own = [e for e in node.entries if e[0].value not in _INSERTION_KEYS]
    inner = _spec(Node(node.where, "mapping", entries=tuple(own)), path, faults)
    at = _typed(node, "at", str, "a site: glob, regex or class name", path, faults)
    if node.get("at") is None:
        faults.append(_fault(node, path, "no 'at', expected where in the host the block goes"))
    position = _choice(node, "position", _POSITIONS, path, faults)
    view = _choice(node, "view", _VIEWS, path, faults)
    name = _typed(node, "name", str, "a name", path, faults)
    identity = _typed(node, "identity", bool, "true or false", path, faults) or False
    if inner is None or len(faults) > before:
        return None
    return Insertion(inner, at, position, identity, name, view, node.where)


def _choice(node: Node, key: str, choices: tuple[str, ...], path: str, faults: list[str]) -> str | None:
    found: str | None = _typed(node, key, str, f"a {key}", path, faults)
    if found is not None and found not in choices:
        text = f"{found!r}, expected one of {', '.join(choices)}{did_you_mean(found, choices)}"
        faults.append(_fault(node.get(key) or node, _join(path, key), text))
    return found


_READERS: Mapping[str, Callable[[Node, str, list[str]], Spec | None]] = {
    "block": _block,
    "chain": _nodes("chain", ChainSpec),
    "sum": _nodes("sum", SumSpec),
    "residual": _residual,
    "insert": _insert,
}


def _typed(node: Node, key: str, kind: type, words: str, path: str, faults: list[str]) -> Any:
    value = node.get(key)
    if value is None or (_is_null(value) and key != "block"):
        return None
    if value.kind != "scalar" or type(value.value) is not kind:
        faults.append(_fault(value, _join(path, key), f"{value.describe()}, expected {words}"))
        return None
    return value.value


def _is_null(node: Node) -> bool:
    return node.kind == "scalar" and node.value is None


def _no_other_keys(node: Node, path: str, known: tuple[str, ...], faults: list[str]) -> None:
    for key, _ in node.entries:
        if key.value not in known:
            hint = did_you_mean(key.value, known) or f", expected {' or '.join(map(repr, known))}"
            faults.append(_fault(key, path, f"unknown key {key.value!r}{hint}"))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _fault(node: Node, path: str, text: str) -> str:
    return f"{node.where}: {path + ': ' if path else ''}{text}"
