"""Torch files (``torch.save``), read with ``weights_only=True``: tensors and plain data, no code."""

import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnzoo.errors import UnsafeFile, WeightsError
from attnzoo.weights.checkpoint import Checkpoint, ListedTensor
from attnzoo.weights.tensors import dtype_name

__all__ = ["open_torch", "require_safe_torch"]

_SAFE_TORCH = (2, 10)  # CVE-2026-24747: before, weights_only=True could be made to corrupt memory
_DEPTH = 16


def require_safe_torch(version: str = torch.__version__) -> None:
    """Refuse a torch whose ``weights_only=True`` is not safe.

    Raises:
        UnsafeFile: torch is older than 2.10 (CVE-2026-24747).
    """
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if numbers < _SAFE_TORCH:
        message = (
            f"torch {version}: reads torch files unsafely even with weights_only=True (CVE-2026-24747), "
            "expected 2.10 or later; upgrade torch, or use a safetensors file"
        )
        raise UnsafeFile(message)


def open_torch(path: Path, *, legacy: bool) -> Checkpoint:
    """Open a torch file; tensors of other devices come to the CPU, and stay in the mapped file where that is possible.

    Raises:
        UnsafeFile: It holds more than tensors and plain data, or this torch is not safe.
        WeightsError: It is damaged, or has no tensors.
    """
    require_safe_torch()
    data = _load(path, legacy=legacy)
    found = dict(_tensors(data))
    if not found:
        message = f"{path}: no tensors in it, expected a state dict"
        raise WeightsError(message)
    named = _names(found)
    listed: dict[str, ListedTensor] = {}
    first_of: dict[Any, str] = {}
    shared: dict[str, str] = {}
    for name, tensor in named.items():
        listed[name] = ListedTensor(tuple(tensor.shape), dtype_name(tensor.dtype))
        if tensor.numel():
            key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
            first = first_of.setdefault(key, name)
            if first != name:
                shared[name] = first

    def read(names: Iterable[str]) -> dict[str, Tensor]:
        return {n: _owned(named[n]) for n in names}

    return Checkpoint(path, "torch legacy" if legacy else "torch", listed, read, shared=shared)


def _owned(tensor: Tensor) -> Tensor:
    """Return the tensor's values in aligned memory that no other tensor has."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    if whole and tensor.is_contiguous() and tensor.data_ptr() % 64 == 0:
        return tensor.detach()
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _load(path: Path, *, legacy: bool) -> Any:
    if not legacy:
        _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=not legacy)
    except Exception as error:
        # torch.load raises whatever its parsers meet in damaged bytes; each is told as what it is: an unreadable file.
        raise _refusal(path, error) from error


def _check_archive(path: Path) -> None:
    """Refuse archives that torch.save does not write: compressed or overlapping entries, which may blow up."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            packed = [
                e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED or e.file_size != e.compress_size
            ]
            total = sum(e.file_size for e in entries)
    except Exception as error:
        message = f"{path}: not a whole torch file ({type(error).__name__}: {error}); nothing was loaded"
        raise WeightsError(message) from error
    if packed or total > path.stat().st_size:
        reason = f"{packed[0]!r} is compressed" if packed else "its entries overlap"
        message = f"{path}: {reason}, which torch.save does not write; nothing was loaded"
        raise UnsafeFile(message)


def _refusal(path: Path, error: Exception) -> WeightsError:
    text = str(error)
    unsafe = re.search(r"GLOBAL ([\w.]+)|[Uu]nsupported (?:global|operand|class)[^.\n]*", text)
    if unsafe or ("weights_only" in text.split("\n")[0].lower() and "unsupported" in text.lower()):
        what = f"the class {unsafe.group(1)}" if unsafe and unsafe.group(1) else "more than tensors and plain data"
        message = (
            f"{path}: needs {what}, which attnzoo does not unpickle, expected tensors and plain data only; "
            "save the state dict alone in the program that made it"
        )
        return UnsafeFile(message)
    reason = (text.strip().splitlines() or [""])[0][:200]
    message = f"{path}: not a whole torch file ({type(error).__name__}: {reason}); nothing was loaded"
    return WeightsError(message)


def _tensors(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Yield the tensors below ``data`` with their path of keys; states of optimizers are left out."""
    if isinstance(data, Tensor):
        if data.layout == torch.strided and not data.is_quantized:
            yield path or ("tensor",), data
        return
    if len(path) >= _DEPTH or _is_optimizer(data):
        return
    if isinstance(data, Mapping):
        for key, value in data.items():
            if isinstance(key, str | int):
                yield from _tensors(value, (*path, str(key)))


def _is_optimizer(data: Any) -> bool:
    return isinstance(data, Mapping) and "param_groups" in data and "state" in data


def _names(found: Mapping[tuple[str, ...], Tensor]) -> dict[str, Tensor]:
    """Return dotted names; the outer keys are dropped when all tensors have the same."""
    outer = {path[:-1] for path in found}
    while len(paths := {path[:1] for path in outer}) == 1 and () not in paths and all(outer):
        found = {path[1:]: tensor for path, tensor in found.items()}
        outer = {path[:-1] for path in found}
    return {".".join(path): tensor for path, tensor in found.items()}
