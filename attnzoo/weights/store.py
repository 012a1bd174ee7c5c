"""Self-describing safetensors files: a block's tensors, with its spec, plugin, licence and source in the header."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from attnzoo import __version__
from attnzoo.builder import build_spec, spec_of
from attnzoo.errors import LoadError, SpecError, WeightsError
from attnzoo.registry import Registry
from attnzoo.spec import Spec, blocks_of, spec_from_data, spec_to_data

__all__ = [
    "LoadReport",
    "atomic_write",
    "build_on_meta",
    "compare_tensors",
    "load_block",
    "load_into",
    "read_description",
    "read_tensors",
    "save_block",
]

_KEY = "attnzoo"
_FORMAT = 1


@dataclass(frozen=True)
class LoadReport:
    """What fitted and what did not: names, and both shapes where they differ (file's, then module's)."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def ok(self) -> bool:
        """Whether everything fitted."""
        return not (self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        lines = [f"missing {name!r}" for name in self.missing]
        lines += [f"unexpected {name!r}" for name in self.unexpected]
        lines += [f"{name!r} has shape {a}, expected {b}" for name, (a, b) in self.misshapen.items()]
        return "; ".join([f"{len(self.matched)} tensors fit", *lines])


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
    tensors = _untied({k: v.detach() for k, v in block.state_dict().items()})
    data = tensors_to_bytes(tensors, {_KEY: json.dumps(description, sort_keys=True)})
    atomic_write(path, data)


def _without_weights(spec: Spec) -> Spec:
    from dataclasses import fields, replace

    from attnzoo.spec import BlockSpec

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


def _untied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give tensors that share memory their own, since a safetensors file cannot say that they are one."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        pointer = tensor.untyped_storage().data_ptr()
        shared = pointer in seen and tensor.numel() > 0
        seen.add(pointer)
        result[name] = tensor.clone().contiguous() if shared else tensor.contiguous()
    return result


def atomic_write(path: Path | str, data: bytes) -> None:
    """Write ``data`` to a temporary file beside ``path`` and move it there in one step.

    Raises:
        WeightsError: The folder does not exist or cannot be written to.
    """
    path = Path(path)
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        message = f"{path}: cannot be written ({error.strerror or error}); nothing was changed"
        raise WeightsError(message) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[Any]:
    try:
        with safe_open(str(path), framework="pt") as handle:
            yield handle
    except FileNotFoundError as error:
        message = f"{path}: no such file"
        raise WeightsError(message) from error
    except (OSError, SafetensorError, ValueError) as error:
        message = f"{path}: not a whole safetensors file ({error}); nothing was loaded"
        raise WeightsError(message) from error


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; their memory is the mapped file."""
    with _opened(path) as handle:
        return {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - not a dict


def read_description(path: Path | str) -> dict[str, Any] | None:
    """Return the description in a file that attnzoo saved, or None for another safetensors file.

    Raises:
        WeightsError: The file cannot be read, or its description is damaged or of a newer format.
    """
    with _opened(path) as handle:
        text = (handle.metadata() or {}).get(_KEY)
    if text is None:
        return None
    try:
        description = json.loads(text)
        version = description["format"]
        description["spec"]
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
    description = read_description(path)
    if description is None:
        message = f"{path}: no description in the header, expected a file saved by attnzoo; see: attnzoo scan {path}"
        raise WeightsError(message)
    try:
        spec = spec_from_data(description["spec"], str(path))
    except SpecError as error:
        message = f"{path}: the spec in the header is damaged: {error}"
        raise WeightsError(message) from error
    module = build_on_meta(lambda: build_spec(spec, registry), read_tensors(path), str(path))
    return module


def build_on_meta(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], where: str = "tensors") -> nn.Module:
    """Build a module without memory and give it ``tensors``.

    Buffers that are not saved (tables computed from the arguments) come from a second, real instance.

    Raises:
        LoadError: The tensors do not fit.
    """
    with torch.device("meta"):
        module = build()
    ties = _ties(module)
    report = compare_tensors(module, tensors)
    if not report.ok:
        message = f"{where}: {report}"
        raise LoadError(message)
    module.load_state_dict(dict(tensors), assign=True)
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


def compare_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> LoadReport:
    """Compare ``tensors`` with what ``module`` has, by name and shape; changes nothing."""
    own = {k: tuple(v.shape) for k, v in module.state_dict().items()}
    found = {k: tuple(v.shape) for k, v in tensors.items()}
    misshapen = {k: (found[k], own[k]) for k in own if k in found and found[k] != own[k]}
    return LoadReport(
        matched=tuple(k for k in own if k in found and k not in misshapen),
        missing=tuple(k for k in own if k not in found),
        unexpected=tuple(k for k in found if k not in own),
        misshapen=misshapen,
    )


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], where: str = "tensors") -> LoadReport:
    """Copy ``tensors`` into ``module``, all or nothing.

    Raises:
        LoadError: Something is missing, unexpected or misshapen; the module is unchanged.
    """
    report = compare_tensors(module, tensors)
    if not report.ok:
        message = f"{where}: {report}; the module is unchanged"
        raise LoadError(message)
    module.load_state_dict(dict(tensors))
    return report
