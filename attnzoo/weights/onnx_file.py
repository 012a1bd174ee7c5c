"""ONNX files: their tensors, and blocks found by the chain of operators around them (``attnzoo[onnx]``).

Exporters rename tensors, so a dialect may say its block as a chain:
``graph: "GlobalAveragePool > Conv squeeze > Relu > Conv excite > Sigmoid gate > Mul"``.
Labelled operators give the tensors ``squeeze.weight``, ``squeeze.bias`` … and, to the expressions under ``args``,
``ops['gate']`` and ``attrs['gate.alpha']``.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnzoo.card import Dialect
from attnzoo.errors import AttnZooError, WeightsError
from attnzoo.registry import Registry
from attnzoo.weights.checkpoint import Checkpoint, ListedTensor

if TYPE_CHECKING:
    from torch import Tensor

    from attnzoo.weights.scan import Found

__all__ = ["open_onnx", "scan_graph"]

_PASS = ("Identity", "Reshape", "Cast", "Unsqueeze", "Squeeze", "Flatten", "Dropout")
_TYPES = {
    1: "F32",
    2: "U8",
    3: "I8",
    4: "U16",
    5: "I16",
    6: "I32",
    7: "I64",
    9: "BOOL",
    10: "F16",
    11: "F64",
    12: "U32",
    13: "U64",
}


@dataclass(frozen=True)
class _Graph:
    """An ONNX graph: its nodes by what they read, its constants by name."""

    nodes: tuple[Any, ...]
    readers: Mapping[str, tuple[Any, ...]]
    makers: Mapping[str, Any]
    constants: Mapping[str, Any]

    def constant(self, name: str) -> str | None:
        """Return the constant that ``name`` is, perhaps reshaped, or None."""
        for _ in range(8):
            if name in self.constants:
                return name
            node = self.makers.get(name)
            if node is None or node.op_type not in _PASS or not node.input:
                return None
            name = node.input[0]
        return None


def open_onnx(path: Path) -> Checkpoint:
    """Open an ONNX file; its tensors are the initializers and constants of the main graph.

    Raises:
        WeightsError: onnx is not installed, or the file is damaged.
    """
    try:
        import onnx  # type: ignore[import-not-found]
    except ImportError as error:
        message = f"{path}: reading ONNX files needs the package onnx; pip install attnzoo[onnx]"
        raise WeightsError(message) from error
    try:
        graph = _graph(onnx.load(str(path), load_external_data=False).graph)
        listed = {
            k: ListedTensor(tuple(v.dims), _TYPES[v.data_type])
            for k, v in graph.constants.items()
            if v.data_type in _TYPES
        }
    except Exception as error:
        # The protobuf reader raises its own errors on damaged bytes.
        message = f"{path}: not a whole ONNX file ({type(error).__name__}: {error}); nothing was loaded"
        raise WeightsError(message) from error

    def read(names: Iterable[str]) -> "dict[str, Tensor]":
        return {name: _tensor(path, name, graph.constants[name]) for name in names}

    return Checkpoint(path, "onnx", listed, read, graph=graph)


def _tensor(path: Path, name: str, value: Any) -> "Tensor":
    import torch
    from onnx import numpy_helper

    try:
        return torch.from_numpy(numpy_helper.to_array(value, base_dir=str(path.parent)).copy())
    except Exception as error:
        message = f"{path}: tensor {name!r} cannot be read ({type(error).__name__}: {error})"
        raise WeightsError(message) from error


def _graph(graph: Any) -> _Graph:
    readers: dict[str, list[Any]] = {}
    constants = {i.name: i for i in graph.initializer}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
        if node.op_type == "Constant":
            constants.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    makers = {name: node for node in graph.node for name in node.output}
    return _Graph(tuple(graph.node), {k: tuple(v) for k, v in readers.items()}, makers, constants)


def scan_graph(checkpoint: Checkpoint, registry: Registry, known: set[str]) -> "list[Found]":
    """Return the blocks that the dialects' chains find; a site is the name of the last labelled operator's output."""
    from attnzoo.weights.scan import Found, Reading

    graph: _Graph = checkpoint.graph
    found: dict[str, Found] = {}
    for entry in registry:
        if entry.card.path is None or "graph:" not in entry.card.path.read_text(encoding="utf-8"):
            continue
        for dialect in entry.card.dialects.values():
            for walk in _walks(graph, dialect.graph):
                args = _arguments(dialect, walk, checkpoint)
                if args is None or walk.site in known:
                    continue
                reading = Reading(entry.id, (dialect.name,), args, {})
                before = found[walk.site].readings if walk.site in found else ()
                dtype = checkpoint.tensors[next(iter(walk.tensors.values()))].dtype
                found[walk.site] = Found(walk.site, (*before, reading), len(walk.tensors), dtype, graph=walk.tensors)
    return list(found.values())


@dataclass(frozen=True)
class _Walk:
    site: str
    tensors: Mapping[str, str]  # label.weight -> the constant's name
    ops: Mapping[str, str]
    attrs: Mapping[str, Any]


def _arguments(dialect: Dialect, walk: _Walk, checkpoint: Checkpoint) -> dict[str, Any] | None:
    from attnzoo.weights.binding import applies, our_arguments

    shapes = {k: list(checkpoint.tensors[v].shape) for k, v in walk.tensors.items()}
    bound = {"ops": dict(walk.ops), "attrs": dict(walk.attrs)}
    try:
        return our_arguments(dialect, bound, shapes=shapes) if applies(dialect, bound) else None
    except AttnZooError:
        return None


def _walks(graph: _Graph, chain: str) -> Iterator[_Walk]:
    steps = [
        (tuple(words[0].split("|")), words[1] if len(words) > 1 else "")
        for text in chain.split(">")
        if (words := text.split())
    ]
    if not steps:
        return
    for node in graph.nodes:
        if node.op_type in steps[0][0]:
            walk = _walk(graph, node, steps)
            if walk is not None:
                yield walk


def _walk(graph: _Graph, node: Any, steps: list[tuple[tuple[str, ...], str]]) -> _Walk | None:
    site = ""
    tensors: dict[str, str] = {}
    ops: dict[str, str] = {}
    attrs: dict[str, Any] = {}
    for position, (wanted, label) in enumerate(steps):
        if position:
            following = _next(graph, node.output[0], wanted)
            if following is None:
                return None
            node = following
        if not label:
            continue
        ops[label] = node.op_type
        attrs |= {f"{label}.{a.name}": a.f if a.type == 1 else a.i for a in node.attribute if a.type in (1, 2)}
        constants = [c for name in node.input if (c := graph.constant(name)) is not None]
        tensors |= {f"{label}.{kind}": c for kind, c in zip(("weight", "bias"), constants, strict=False)}
        bias = _bias_after(graph, node) if len(constants) == 1 else None
        if bias is not None:
            node, tensors[f"{label}.bias"] = bias
        site = node.output[0]
    return _Walk(site, tensors, ops, attrs) if tensors else None


def _next(graph: _Graph, name: str, wanted: tuple[str, ...]) -> Any:
    for _ in range(4):
        readers = graph.readers.get(name, ())
        hit = next((n for n in readers if n.op_type in wanted), None)
        if hit is not None or len(readers) != 1 or readers[0].op_type not in _PASS:
            return hit
        name = readers[0].output[0]
    return None


def _bias_after(graph: _Graph, node: Any) -> tuple[Any, str] | None:
    """Return an ``Add`` of a constant that follows ``node``, and the constant's name."""
    readers = graph.readers.get(node.output[0], ())
    if len(readers) != 1 or readers[0].op_type != "Add":
        return None
    constants = [c for name in readers[0].input if (c := graph.constant(name)) is not None]
    return (readers[0], constants[0]) if len(constants) == 1 else None
