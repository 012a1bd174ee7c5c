"""Specs: what to build, as data. YAML to `Spec` and back; reading one runs no code and imports no torch.

::

    {block: se, args: {channels: 64}, weights: …}     a block
    chain: [node, …]                                   in order
    sum: [node, …]                                     in parallel, added
    residual: node                                     x + node(x)
    insert: [{block: cbam, at: "layer*", …}, …]        into a host
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnzoo.errors import AttnZooError, SpecError, did_you_mean
from attnzoo.registry import Registry
from attnzoo.yaml_reader import Node, Where, plain, read_yaml, read_yaml_file, write_yaml

__all__ = [
    "BlockSpec",
    "ChainSpec",
    "InsertSpec",
    "Insertion",
    "ResidualSpec",
    "Spec",
    "SumSpec",
    "blocks_of",
    "check_spec",
    "read_spec",
    "read_spec_text",
    "read_specs",
    "spec_from_data",
    "spec_to_data",
    "write_spec",
]


@dataclass(frozen=True)
class BlockSpec:
    """One block: its name, its arguments and, if wanted, its weights (catalogue name, path or address)."""

    block: str
    args: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    version: int | None = None  # contract version of the card that the spec was written for
    where: Where | None = field(default=None, compare=False, repr=False)
    places: Mapping[str, Where] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class ChainSpec:
    """Nodes in order, each fed with the output of the one before."""

    nodes: tuple["Spec", ...]
    where: Where | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class SumSpec:
    """Nodes in parallel; their outputs are added."""

    nodes: tuple["Spec", ...]
    where: Where | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class ResidualSpec:
    """``x + node(x)``."""

    node: "Spec"
    where: Where | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Insertion:
    """One node and where in a host it goes. ``position`` is ``after``, ``before`` or ``replace``.

    ``name`` is the block's name at its site, ``view`` (``map`` or ``tokens``) the form in which it sees the tensor there.
    """

    node: "Spec"
    at: str
    position: str | None = None  # as the named placement says, else after
    identity: bool = False
    name: str | None = None
    view: str | None = None
    where: Where | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class InsertSpec:
    """Insertions into a host, in order."""

    insertions: tuple[Insertion, ...]
    where: Where | None = field(default=None, compare=False, repr=False)


Spec = BlockSpec | ChainSpec | SumSpec | ResidualSpec | InsertSpec

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
        found = (
            f"keys {', '.join(map(repr, kinds))} together" if kinds else f"keys {', '.join(map(repr, keys)) or 'none'}"
        )
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
    if args is not None and args.kind != "mapping" and args.value is not None:
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
            faults.append(_fault(items, _join(path, kind), f"{items.describe()}, expected a list of at least one node"))
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
        faults.append(_fault(items, _join(path, "insert"), f"{items.describe()}, expected a list of insertions"))
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
    if value is None or (value.kind == "scalar" and value.value is None and key != "block"):
        return None
    if value.kind != "scalar" or type(value.value) is not kind:
        faults.append(_fault(value, _join(path, key), f"{value.describe()}, expected {words}"))
        return None
    return value.value


def _no_other_keys(node: Node, path: str, known: tuple[str, ...], faults: list[str]) -> None:
    for key, _ in node.entries:
        if key.value not in known:
            hint = did_you_mean(key.value, known) or f", expected {' or '.join(map(repr, known))}"
            faults.append(_fault(key, path, f"unknown key {key.value!r}{hint}"))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _fault(node: Node, path: str, text: str) -> str:
    return f"{node.where}: {path + ': ' if path else ''}{text}"


def blocks_of(spec: Spec) -> Iterator[BlockSpec]:
    """Yield every block of a spec, in the order in which they are written."""
    if isinstance(spec, BlockSpec):
        yield spec
    elif isinstance(spec, ChainSpec | SumSpec):
        for node in spec.nodes:
            yield from blocks_of(node)
    elif isinstance(spec, ResidualSpec):
        yield from blocks_of(spec.node)
    else:
        for insertion in spec.insertions:
            yield from blocks_of(insertion.node)


def check_spec(spec: Spec, registry: Registry, given: Mapping[str, Any] | None = None) -> None:
    """Check names and arguments of every block against the registry; all faults are raised together.

    ``given`` are arguments that will be filled in later (``channels`` when a host is probed). This imports the blocks.

    Raises:
        SpecError: Every unknown block, unknown or missing argument and wrong type, with its place.
    """
    from attnzoo.arguments import argument_faults, parameters_of

    faults: list[str] = []
    for block in blocks_of(spec):
        try:
            entry = registry.pinned(block.block, block.version).find(block.block)
            cls = entry.card.load_class()
        except AttnZooError as error:
            faults.append(f"{_place(block)}{error}")
            continue
        filled = {**{k: v for k, v in (given or {}).items() if k in parameters_of(cls)}, **block.args}
        problems = {} if block.weights else argument_faults(block.block, cls, filled)
        for name, text in problems.items():
            where = block.places.get(name, block.where)
            faults.append(f"{where}: args.{name}: {text}" if where else text)
    if faults:
        raise SpecError(faults)


def _place(block: BlockSpec) -> str:
    return f"{block.where}: " if block.where else ""


def spec_to_data(spec: Spec) -> dict[str, Any]:
    """Return a spec as plain data; the inverse of `spec_from_data`."""
    if isinstance(spec, BlockSpec):
        optional = {"args": dict(spec.args), "weights": spec.weights, "version": spec.version}
        return {"block": spec.block, **{k: v for k, v in optional.items() if v not in (None, {})}}
    if isinstance(spec, ChainSpec):
        return {"chain": [spec_to_data(n) for n in spec.nodes]}
    if isinstance(spec, SumSpec):
        return {"sum": [spec_to_data(n) for n in spec.nodes]}
    if isinstance(spec, ResidualSpec):
        return {"residual": spec_to_data(spec.node)}
    return {"insert": [_insertion_data(i) for i in spec.insertions]}


def _insertion_data(insertion: Insertion) -> dict[str, Any]:
    optional = {
        "position": insertion.position,
        "identity": insertion.identity or None,
        "name": insertion.name,
        "view": insertion.view,
    }
    return {**spec_to_data(insertion.node), "at": insertion.at, **{k: v for k, v in optional.items() if v is not None}}


def write_spec(spec: Spec) -> str:
    """Return a spec as YAML that reads back to the same spec."""
    return write_yaml(spec_to_data(spec))
