"""Checkpoints of any origin: what tensors a file has, and those that are wanted. safetensors, torch files, ONNX.

Listing reads headers only (safetensors, also in several files with an index) or maps the file (torch). Torch files are
read with ``weights_only=True`` and nothing else is ever unpickled.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnzoo.errors import UnsafeFile, WeightsError, near_matches
from attnzoo.weights.header import Header, other_format, read_header

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Checkpoint", "ListedTensor", "open_checkpoint", "site_hint"]

_INDEX = "model.safetensors.index.json"
_MAX_INDEX = 100_000_000  # bytes


@dataclass(frozen=True)
class ListedTensor:
    """A tensor of a checkpoint: its shape and its type in safetensors' spelling."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: its tensors by name, and how to read some of them.

    Attributes:
        path: The file, or the index of several.
        format: ``safetensors``, ``sharded safetensors``, ``torch``, ``torch legacy`` or ``onnx``.
        tensors: What is in it. Names are those of the file, without the outer keys (``state_dict``) if only one of them
            has tensors.
        read: Returns the tensors of some names.
        shared: Name to the first name of the same memory, for tensors that are one.
        metadata: Texts of the header.
        graph: For ONNX, the model as onnx has it.
    """

    path: Path
    format: str
    tensors: Mapping[str, ListedTensor]
    read: "Callable[[Iterable[str]], dict[str, Tensor]]"
    shared: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    graph: Any = None

    def below(self, site: str) -> "dict[str, ListedTensor]":
        """Return the tensors below the dotted path ``site``, their names without it."""
        prefix = f"{site}." if site else ""
        return {k[len(prefix) :]: v for k, v in self.tensors.items() if k.startswith(prefix)}

    def read_below(self, site: str) -> "dict[str, Tensor]":
        """Read the tensors below the dotted path ``site``; their names come without it.

        Raises:
            WeightsError: Nothing is there.
        """
        prefix = f"{site}." if site else ""
        names = [k for k in self.tensors if k.startswith(prefix)]
        if not names:
            sites = {".".join(k.split(".")[:n]) for k in self.tensors for n in range(1, k.count(".") + 1)}
            message = f"{self.path}: no tensor below {site!r}{site_hint(self.path, site, sorted(sites))}"
            raise WeightsError(message)
        return {k[len(prefix) :]: v for k, v in self.read(names).items()}


def site_hint(path: Path, site: str, known: Iterable[str]) -> str:
    """Return the end of an error: what ``site`` may mean, with more or fewer keys in front or spelt alike, or help."""
    sites = [k for k in known if k]
    ends = [k for k in sites if k.endswith(f".{site}") or site.endswith(f".{k}")] if site else []
    near = ends[:3] or near_matches(site, sites)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; see: attnzoo scan {path}"


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open a checkpoint by what it begins with, whatever its name.

    Args:
        path: A safetensors, torch or ONNX file; an index (JSON) of several safetensors files, or a folder with one.

    Raises:
        WeightsError: It cannot be read or is damaged.
        UnsafeFile: Reading it would run code, or its format is not known.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    head = _head(path)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40:
        return _open_safetensors(path)
    if head[:1] == b"{":
        return _open_index(path)
    if head[:4] == b"PK\x03\x04" or head[:1] == b"\x80":
        from attnzoo.weights.torch_file import open_torch

        return open_torch(path, legacy=head[:1] == b"\x80")
    if path.suffix == ".onnx":
        from attnzoo.weights.onnx_file import open_onnx

        return open_onnx(path)
    if path.suffix == ".safetensors":
        return _open_safetensors(path)
    if not head:
        message = f"{path}: is empty, expected a checkpoint; fetch it again"
        raise WeightsError(message)
    if other := other_format(path, head):
        raise UnsafeFile(other)
    message = f"{path}: begins with {head[:8]!r}, expected a safetensors, torch (weights only) or ONNX file"
    raise UnsafeFile(message)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except FileNotFoundError as error:
        message = f"{path}: no such file"
        raise WeightsError(message) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        message = f"{path}: cannot be read ({reason})"
        raise WeightsError(message) from error


def _open_folder(path: Path) -> Checkpoint:
    for name in (_INDEX, "model.safetensors"):
        if (path / name).is_file():
            return open_checkpoint(path / name)
    indices = sorted(path.glob("*.safetensors.index.json"))
    if len(indices) == 1:
        return open_checkpoint(indices[0])
    if (path / ".metadata").exists():
        message = (
            f"{path}: a torch.distributed.checkpoint, whose metadata is a pickle and is not read; "
            "load it with torch.distributed.checkpoint and save the block, see docs/weights.md"
        )
        raise UnsafeFile(message)
    files = sorted(p.name for p in path.glob("*.safetensors"))
    hint = f"; name one of its files, such as {files[0]}" if files else ""
    message = f"{path}: a folder without {_INDEX} or model.safetensors, expected a checkpoint{hint}"
    raise WeightsError(message)


def _listed(header: Header) -> dict[str, ListedTensor]:
    return {k: ListedTensor(v.shape, v.dtype) for k, v in header.tensors.items()}


def _open_safetensors(path: Path) -> Checkpoint:
    header = read_header(path)

    def read(names: "Iterable[str]") -> "dict[str, Tensor]":
        from attnzoo.weights.tensors import read_tensors

        return read_tensors(path, names, header=header)

    return Checkpoint(path, "safetensors", _listed(header), read, metadata=header.metadata)


def _open_index(path: Path) -> Checkpoint:
    weight_map = _read_index(path)
    for tensor, name in weight_map.items():
        if not (path.parent / name).is_file():
            message = f"{path}: weight_map: {tensor!r} is in {name}, which is not beside the index; fetch that file too"
            raise WeightsError(message)
    headers = {name: read_header(path.parent / name) for name in sorted(set(weight_map.values()))}
    for tensor, name in weight_map.items():
        if tensor not in headers[name].tensors:
            message = f"{path}: weight_map: {tensor!r} is not in {name}, which the index says has it"
            raise WeightsError(message)
    listed = {t: _listed_one(headers[f], t) for t, f in weight_map.items()}

    def read(names: "Iterable[str]") -> "dict[str, Tensor]":
        from attnzoo.weights.tensors import read_tensors

        by_file: dict[str, list[str]] = {}
        for name in names:
            by_file.setdefault(weight_map[name], []).append(name)
        result: dict[str, Any] = {}
        for file, wanted in by_file.items():
            result.update(read_tensors(path.parent / file, wanted, header=headers[file]))
        return result

    return Checkpoint(path, "sharded safetensors", listed, read)


def _listed_one(header: Header, name: str) -> ListedTensor:
    info = header.tensors[name]
    return ListedTensor(info.shape, info.dtype)


def _read_index(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > _MAX_INDEX:
            message = f"{path}: over {_MAX_INDEX} bytes, expected an index of safetensors files"
            raise WeightsError(message)
        data = json.loads(path.read_text(encoding="utf-8"))
        weight_map = data["weight_map"]
        pairs = list(weight_map.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{path}: not an index of safetensors files ({type(error).__name__}: {error}), expected 'weight_map'"
        raise WeightsError(message) from error
    for tensor, name in pairs:
        if not isinstance(name, str) or Path(name).name != name or not name:
            message = f"{path}: weight_map: {tensor!r}: {name!r}, expected the name of a file beside the index"
            raise WeightsError(message)
    return dict(pairs)
