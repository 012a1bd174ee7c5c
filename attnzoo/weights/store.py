"""Self-describing safetensors files: a block's tensors, with its spec, plugin, licence and source in the header."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo import __version__
from attnzoo.builder import build_spec, spec_of
from attnzoo.errors import LoadError, SpecError, WeightsError
from attnzoo.registry import Registry
from attnzoo.spec import BlockSpec, Spec, blocks_of, spec_to_data
from attnzoo.spec_reader import spec_from_data
from attnzoo.weights.files import atomic_write
from attnzoo.weights.header import Header, read_header
from attnzoo.weights.report import LoadReport, compare_tensors, load_into
from attnzoo.weights.tensors import read_tensors, tensor_chunks

__all__ = [
    "LoadReport",
    "atomic_write",
    "build_on_meta",
    "compare_tensors",
    "fill_from_meta",
    "load_block",
    "load_into",
    "read_description",
    "read_tensors",
    "save_block",
]

_KEY = "attnzoo"
_FORMAT = 1


def save_block(
    block: nn.Module,
    path: Path | str,
    spec: Spec | None,
    registry: Registry,
    **about: Any,
) -> None:
    """Write ``block`` to ``path`` with its description; a kill in the middle leaves an older file whole.

    Args:
        block: The module.
        path: The file to write.
        spec: What it is; None takes the spec that attnzoo built it from.
        registry: Where the plugins of its blocks are looked up.
        **about: Further facts for the description: licence, source, parent, parent_sha256.

    Raises:
        WeightsError: No spec is known, or the file cannot be written.
    """
    spec = spec or spec_of(block)
    if spec is None:
        message = (
            f"{path}: a {type(block).__name__} that attnzoo did not build, expected one from create, build or load"
        )
        raise WeightsError(message)
    description = {"format": _FORMAT, "attnzoo": __version__, "spec": spec_to_data(_without_weights(spec))}
    description["plugins"] = _plugins_of(spec, registry)
    description.update({k: v for k, v in about.items() if v})
    try:
        text = json.dumps(description, sort_keys=True)
    except (TypeError, ValueError) as error:
        message = f"{path}: the description holds what is no plain data ({error}), expected text, numbers and lists"
        raise WeightsError(message) from error
    atomic_write(path, tensor_chunks(block.state_dict(), {_KEY: text}))


def _without_weights(spec: Spec) -> Spec:
    if isinstance(spec, BlockSpec):
        return replace(spec, weights=None)
    changes: dict[str, Any] = {}
    for item in fields(spec):
        value = getattr(spec, item.name)
        if item.name == "nodes":
            changes["nodes"] = tuple(_without_weights(n) for n in value)
        elif item.name == "node":
            changes["node"] = _without_weights(value)
    return replace(spec, **changes)


def _plugins_of(spec: Spec, registry: Registry) -> dict[str, Any]:
    plugins = {}
    for block in blocks_of(spec):
        entry = registry.find(block.block)
        plugins[entry.id] = {
            "distribution": entry.plugin.distribution,
            "version": entry.plugin.version,
            "contract": entry.card.version,
        }
    return plugins


def read_description(path: Path | str, *, header: Header | None = None) -> dict[str, Any] | None:
    """Return the description in a file that attnzoo saved, or None for another safetensors file.

    Raises:
        WeightsError: The file cannot be read, or its description is damaged or of a newer format.
    """
    header = header or read_header(path)
    text = header.metadata.get(_KEY)
    if text is None:
        return None
    try:
        description = json.loads(text)
        version = description["format"]
        if not isinstance(description["spec"], dict):
            raise TypeError(f"the spec is a {type(description['spec']).__name__}")
    except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        message = f"{path}: the description in the header is damaged ({type(error).__name__}: {error})"
        raise WeightsError(message) from error
    if not isinstance(version, int) or version > _FORMAT:
        message = f"{path}: description format {version!r}, this attnzoo reads up to {_FORMAT}; upgrade attnzoo"
        raise WeightsError(message)
    result: dict[str, Any] = description
    return result


def load_block(path: Path | str, registry: Registry) -> nn.Module:
    """Rebuild a block from a self-describing file: built on the meta device, tensors assigned, no second copy.

    Raises:
        WeightsError: The file cannot be read, is damaged, or does not describe itself.
        LoadError: Its tensors do not fit the block it describes.
        NameNotFound: The block it describes is not installed.
    """
    header = read_header(path)
    description = read_description(path, header=header)
    if description is None:
        message = f"{path}: no description in the header, expected a file saved by attnzoo; see: attnzoo scan {path}"
        raise WeightsError(message)
    try:
        # Weights named inside a header are never followed: a file must not make its reader open another one.
        spec = _without_weights(spec_from_data(description["spec"], str(path)))
    except SpecError as error:
        message = f"{path}: the spec in the header is damaged: {error}"
        raise WeightsError(message) from error
    module = build_on_meta(lambda: build_spec(spec, registry), read_tensors(path, header=header), str(path))
    return module


def build_on_meta(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], where: str = "tensors") -> nn.Module:
    """Build a module without memory and give it ``tensors``.

    Buffers that are not saved (tables computed from the arguments) come from a second, real instance.

    Raises:
        LoadError: The tensors do not fit.
    """
    with torch.device("meta"):
        module = build()
    report = compare_tensors(module, tensors)
    if not report.ok:
        message = f"{where}: {report}"
        raise LoadError(message, report)
    return fill_from_meta(module, tensors, build)


def fill_from_meta(module: nn.Module, tensors: Mapping[str, Tensor], build: Callable[[], nn.Module]) -> nn.Module:
    """Give a module on the meta device its ``tensors``, which must fit, and what is not saved from ``build()``."""
    ties = _ties(module)
    for name, parameter in module.named_parameters():
        if name in tensors and parameter.is_floating_point() and not tensors[name].is_floating_point():
            message = (
                f"{type(module).__name__}: {name!r} is stored as {str(tensors[name].dtype).removeprefix('torch.')}, "
                "expected floating point; convert the checkpoint in the program that made it"
            )
            raise LoadError(message)
    try:
        module.load_state_dict(dict(tensors), assign=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        message = f"{type(module).__name__}: its tensors cannot be taken over ({reason})"
        raise LoadError(message) from error
    for first, others in ties.items():
        for name in others:
            _set_parameter(module, name, module.get_parameter(first))
    _fill_unsaved_buffers(module, build)
    return module


def _ties(module: nn.Module) -> dict[str, list[str]]:
    """Return parameters that are one under several names: first name to the others."""
    first_of: dict[int, str] = {}
    ties: dict[str, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        first = first_of.setdefault(id(parameter), name)
        if first != name:
            ties.setdefault(first, []).append(name)
    return ties


def _set_parameter(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, parameter)


def _fill_unsaved_buffers(module: nn.Module, build: Callable[[], nn.Module]) -> None:
    empty = [name for name, buffer in module.named_buffers() if buffer.is_meta]
    if not empty:
        return
    real = dict(build().named_buffers())
    for name in empty:
        parent, _, leaf = name.rpartition(".")
        module.get_submodule(parent)._buffers[leaf] = real[name]
