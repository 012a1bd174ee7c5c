"""Blocks from other libraries' tensors, and back: a dialect applied to whole modules.

Reports are in their names, since that is what can be looked up in their file.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.arguments import full_arguments
from attnzoo.builder import build_block, spec_of
from attnzoo.card import Dialect
from attnzoo.errors import DialectError, LoadError, NameNotFound, WeightsError, did_you_mean
from attnzoo.registry import Entry, Registry
from attnzoo.spec import BlockSpec
from attnzoo.weights.binding import applies, bind_arguments, our_arguments
from attnzoo.weights.dialects import Step, is_counter, their_shapes, to_ours, to_theirs, translation
from attnzoo.weights.files import atomic_write
from attnzoo.weights.report import LoadReport, compare_shapes
from attnzoo.weights.store import fill_from_meta
from attnzoo.weights.tensors import tensor_chunks

__all__ = [
    "arguments_from_theirs",
    "build_foreign",
    "dialect_of",
    "export_block",
    "foreign_report",
    "foreign_tensors",
    "meta_block",
]


def dialect_of(entry: Entry, name: str) -> Dialect:
    """Return the dialect ``name`` of a block.

    Raises:
        NameNotFound: The block has no such dialect.
    """
    dialects = entry.card.dialects
    if name not in dialects:
        known = ", ".join(dialects) or "none"
        message = f"block {entry.id!r}: no dialect {name!r}{did_you_mean(name, dialects)}; its dialects are: {known}"
        raise NameNotFound(message)
    return dialects[name]


def arguments_from_theirs(dialect: Dialect, theirs: Mapping[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Return our arguments for the arguments of their constructor and the shapes of their tensors.

    Raises:
        DialectError: An argument is unknown or missing, or the dialect is not for such arguments.
    """
    bound = bind_arguments(dialect, (), theirs)
    if not applies(dialect, bound):
        message = f"dialect {dialect.name!r}: does not hold for these arguments, expected {dialect.when}"
        raise DialectError(message)
    return our_arguments(dialect, bound, shapes=shapes)


def meta_block(registry: Registry, block: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a block without memory."""
    with torch.device("meta"):
        return build_block(registry, block, arguments)


def steps_for(entry: Entry, dialect: Dialect, arguments: Mapping[str, Any], module: nn.Module) -> list[Step]:
    """Return the translation between the dialect and ``module``, which was built with ``arguments``."""
    shapes = {k: tuple(v.shape) for k, v in module.state_dict().items()}
    return translation(dialect, full_arguments(entry.card.load_class(), arguments), shapes)


def foreign_report(dialect: Dialect, expected: Mapping[str, Any], found: Mapping[str, Any]) -> LoadReport:
    """Compare the shapes of their tensors that a block needs with those found, but for ignored ones and counters."""
    wanted = {k: v for k, v in expected.items() if k in found or not is_counter(k)}
    counted = {
        k: v
        for k, v in found.items()
        if k in wanted or not (is_counter(k) or any(fnmatchcase(k, g) for g in dialect.ignore))
    }
    return compare_shapes(wanted, counted)


def build_foreign(
    registry: Registry,
    block: str,
    dialect: str,
    arguments: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    where: str = "tensors",
) -> nn.Module:
    """Build a block with *our* ``arguments`` from *their* ``tensors``. All fits or nothing is built.

    Raises:
        LoadError: Tensors are missing, left over or of other shapes; carries the report.
        DialectError: The dialect does not fit the block or the arguments.
    """
    entry = registry.find(block)
    table = dialect_of(entry, dialect)
    module = meta_block(registry, entry.id, arguments)
    steps = steps_for(entry, table, arguments, module)
    expected = their_shapes(steps, {k: tuple(v.shape) for k, v in module.state_dict().items()})
    report = foreign_report(table, expected, {k: tuple(v.shape) for k, v in tensors.items()})
    if not report.ok:
        message = f"{where}: as {entry.id} in the dialect {table.name!r}: {report}; nothing was built"
        raise LoadError(message, report)
    ours, _, _ = to_ours(steps, tensors, table.ignore)
    return _filled(registry, entry, arguments, module, {k: _aligned(v) for k, v in ours.items()})


def _aligned(tensor: Tensor) -> Tensor:
    if tensor.is_contiguous() and tensor.data_ptr() % 64 == 0:
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def _filled(
    registry: Registry, entry: Entry, arguments: Mapping[str, Any], module: nn.Module, ours: dict[str, Tensor]
) -> nn.Module:
    """Give ``module`` its tensors; those that the dialect does not have are as constructed."""
    left = [k for k in module.state_dict() if k not in ours]
    if left:
        built = build_block(registry, entry.id, arguments).state_dict()
        ours |= {k: built[k] for k in left}
    return fill_from_meta(module, ours, lambda: build_block(registry, entry.id, arguments))


def foreign_tensors(block: nn.Module, dialect: str, registry: Registry) -> dict[str, Tensor]:
    """Return a block's tensors as the dialect has them.

    Raises:
        WeightsError: attnzoo did not build the block, or it is composed of several.
        NameNotFound: It has no such dialect.
        DialectError: The dialect cannot say these arguments.
    """
    spec = spec_of(block)
    if not isinstance(spec, BlockSpec):
        message = (
            f"export: a {type(block).__name__} that is not one block built by attnzoo; export its blocks one by one"
        )
        raise WeightsError(message)
    entry = registry.find(spec.block)
    steps = steps_for(entry, dialect_of(entry, dialect), spec.args, block)
    return to_theirs(steps, {k: v.detach() for k, v in block.state_dict().items()})


def export_block(block: nn.Module, path: Path | str, dialect: str, registry: Registry, *, site: str = "") -> list[str]:
    """Write a block to a safetensors file with the names and shapes of another library; return the names.

    Raises:
        WeightsError, NameNotFound, DialectError: As `foreign_tensors`; or the file cannot be written.
    """
    prefix = f"{site}." if site else ""
    tensors = {prefix + k: v for k, v in foreign_tensors(block, dialect, registry).items()}
    atomic_write(path, tensor_chunks(tensors, {"format": "pt"}))
    return list(tensors)
