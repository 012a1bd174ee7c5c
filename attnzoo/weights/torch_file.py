"""Torch files (``torch.save``), read with ``weights_only=True``: tensors and plain data, no code."""

import io
import itertools
import os
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnzoo.errors import UnsafeFile, WeightsError
from attnzoo.weights.checkpoint import Checkpoint, ListedTensor
from attnzoo.weights.header import is_text
from attnzoo.weights.tensors import dtype_name, oddity

__all__ = ["open_torch", "require_safe_torch"]

_SAFE_TORCH = (2, 10)  # CVE-2026-24747: before, weights_only=True could be made to corrupt memory
_DEPTH = 16
_MAX_ENTRIES = 500_000  # a dictionary within itself has ever more


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
    named = _named(path, data)
    listed = {name: ListedTensor(tuple(tensor.shape), _type_of(tensor)) for name, tensor in named.items()}

    def read(names: Iterable[str]) -> dict[str, Tensor]:
        wanted = {n: named[n] for n in names}
        for name, tensor in wanted.items():
            if kind := oddity(tensor):
                message = (
                    f"{path}: tensor {name!r} is {kind}, expected a dense tensor with values; "
                    "convert it in the program that made the file"
                )
                raise WeightsError(message)
        return {n: _owned(tensor) for n, tensor in wanted.items()}

    return Checkpoint(path, "torch legacy" if legacy else "torch", listed, read, shared=_shared(named))


def _type_of(tensor: Tensor) -> str:
    """Return the type in safetensors' spelling, or in torch's where safetensors has none."""
    try:
        return dtype_name(tensor.dtype)
    except WeightsError:
        return str(tensor.dtype).removeprefix("torch.")


def _shared(named: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the names of tensors that are an earlier one, with the name of that."""
    first_of: dict[Any, str] = {}
    shared: dict[str, str] = {}
    for name, tensor in named.items():
        if tensor.numel() and not oddity(tensor):
            first = first_of.setdefault((tensor.data_ptr(), tuple(tensor.shape), tensor.stride()), name)
            if first != name:
                shared[name] = first
    return shared


def _owned(tensor: Tensor) -> Tensor:
    """Return the tensor's values in aligned memory that no other tensor has."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    if whole and tensor.is_contiguous() and tensor.data_ptr() % 64 == 0:
        return tensor.detach()
    return tensor.detach().clone(memory_format=torch.contiguous_format)


class _Bounded(io.BufferedReader):
    """A file that, asked for more than it has, does not first take the memory for it: damaged files ask for much."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next ``size`` bytes, or those that are left."""
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = max(0, min(size, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


def _load(path: Path, *, legacy: bool) -> Any:
    if not legacy:
        _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not legacy:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with _Bounded(io.FileIO(path)) as file:
                return torch.load(file, map_location="cpu", weights_only=True)
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
    unsafe = re.search(r"GLOBAL ([\w.]+)", text) or re.search(r"[Uu]nsupported (?:global|operand|class)()", text)
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


def _named(path: Path, data: Any) -> dict[str, Tensor]:
    """Return the tensors in ``data`` by dotted names; the outer keys are dropped when all tensors have the same.

    Raises:
        WeightsError: There are none, or two have one name.
    """
    # What lies in a list (states of random generators) counts only if there is nothing else.
    found = _tensors(path, data, lists=False) or _tensors(path, data, lists=True)
    if not found:
        message = f"{path}: no tensors in it, expected a state dict"
        raise WeightsError(message)
    outer = {key[:-1] for key in found}
    while len(firsts := {key[:1] for key in outer}) == 1 and () not in firsts and all(outer):
        found = {key[1:]: tensor for key, tensor in found.items()}
        outer = {key[:-1] for key in found}
    named: dict[str, Tensor] = {}
    for key, tensor in found.items():
        if named.setdefault(".".join(key), tensor) is not tensor:
            message = f"{path}: two tensors are called {'.'.join(key)!r}, expected one; save one state dict alone"
            raise WeightsError(message)
    if not is_text("".join(named)):
        message = f"{path}: a tensor's name is not valid text; nothing was loaded"
        raise WeightsError(message)
    return named


def _tensors(path: Path, data: Any, *, lists: bool) -> dict[tuple[str, ...], Tensor]:
    """Return the tensors in ``data`` by their path of keys; states of optimizers are left out."""
    inner = (Tensor, Mapping, list, tuple) if lists else (Tensor, Mapping)
    found: dict[tuple[str, ...], Tensor] = {}
    waiting: list[tuple[tuple[str, ...], Any]] = [((), data)]
    for count in itertools.count():
        if not waiting:
            break
        if count > _MAX_ENTRIES:
            message = f"{path}: over {_MAX_ENTRIES} entries, expected a state dict; save the state dict alone"
            raise WeightsError(message)
        key, value = waiting.pop()
        if isinstance(value, Tensor):
            if not value.is_nested:
                found[key or ("tensor",)] = value
        elif isinstance(value, inner) and len(key) < _DEPTH and not _is_optimizer(value):
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            below = [((*key, str(k)), v) for k, v in pairs if isinstance(k, str | int) and isinstance(v, inner)]
            waiting.extend(reversed(below))
    return found


def _is_optimizer(data: Any) -> bool:
    return isinstance(data, Mapping) and "param_groups" in data and "state" in data
