"""Specs: what to build, as data, checked against a registry and written; `attnzoo.spec_reader` reads them. No torch.

::

    {block: se, args: {channels: 64}, weights: …}     a block
    chain: [node, …]                                   in order
    sum: [node, …]                                     in parallel, added
    residual: node                                     x + node(x)
    insert: [{block: cbam, at: "layer*", …}, …]        into a host
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from attnzoo.errors import AttnZooError, SpecError
from attnzoo.registry import Registry
from attnzoo.yaml_reader import Where, write_yaml

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

    ``name`` is the block's name at its site, ``view`` (``map`` or ``tokens``) the form in which it sees the tensor.
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

_MAX_FAULTS = 100  # looking up the near matches of a wrong name takes milliseconds


def blocks_of(spec: Spec) -> Iterator[BlockSpec]:
    """Yield every block of a spec, in the order in which they are written.

    Raises:
        SpecError: A node is not a spec.
    """
    if isinstance(spec, BlockSpec):
        yield spec
    elif isinstance(spec, ChainSpec | SumSpec):
        for node in spec.nodes:
            yield from blocks_of(node)
    elif isinstance(spec, ResidualSpec):
        yield from blocks_of(spec.node)
    elif isinstance(spec, InsertSpec):
        for insertion in spec.insertions:
            yield from blocks_of(insertion.node)
    else:
        message = f"spec: a {type(spec).__name__}, expected a path, a mapping, or a spec of attnzoo.spec"
        raise SpecError([message])


def check_spec(spec: Spec, registry: Registry, given: Mapping[str, Any] | None = None) -> None:
    """Check names and arguments of every block against the registry; all faults are raised together.

    ``given`` are arguments that will be filled in later (``channels`` when a host is probed). This imports the blocks.

    Raises:
        SpecError: Every unknown block, unknown or missing argument and wrong type, with its place.
    """
    faults: list[str] = []
    for block in blocks_of(spec):
        faults.extend(_block_faults(block, registry, given or {}))
        if len(faults) >= _MAX_FAULTS:
            faults.append("and perhaps more: what follows was not checked")
            break
    if faults:
        raise SpecError(faults)


def _block_faults(block: BlockSpec, registry: Registry, given: Mapping[str, Any]) -> Iterator[str]:
    from attnzoo.arguments import argument_faults, parameters_of

    if problem := _field_fault(block):
        yield f"{_place(block)}{problem}"
        return
    try:
        entry = registry.pinned(block.block, block.version).find(block.block)
        cls = entry.card.load_class()
    except AttnZooError as error:
        yield f"{_place(block)}{error}"
        return
    filled = {**{k: v for k, v in given.items() if k in parameters_of(cls)}, **block.args}
    for name, text in argument_faults(block.block, cls, filled).items():
        if block.weights and name not in filled:
            continue  # it comes with the weights
        where = block.places.get(name, block.where)
        yield f"{where}: args.{name}: {text}" if where else text


def _field_fault(block: BlockSpec) -> str:
    """Say what is wrong with the fields of a `BlockSpec` made by hand; the reader makes none such."""
    if not isinstance(block.args, Mapping):
        return f"args: {block.args!r}, expected a mapping of arguments"
    if not isinstance(block.weights, str | None):
        return f"weights: {block.weights!r}, expected a weights name, path or address as text"
    if not isinstance(block.version, int | None):
        return f"version: {block.version!r}, expected a contract version"
    return ""


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
