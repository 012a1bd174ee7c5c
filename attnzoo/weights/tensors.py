"""Tensors of a safetensors file, in memory that is aligned as torch's own.

Some kernels give other last bits when a tensor does not start at a multiple of 64 bytes. So a tensor that lies aligned
in the file is used there, mapped; every other is read straight into new memory. Either way its bytes are in memory
once.
"""

import ctypes
import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnzoo.errors import WeightsError
from attnzoo.weights.header import Header, TensorInfo, encode_header, read_header

__all__ = ["dtype_name", "oddity", "read_tensors", "tensor_chunks", "torch_dtype"]

_ALIGNMENT = 64
_SMALL = 1 << 16  # bytes; mapping saves nothing below


@functools.cache
def _dtypes() -> Mapping[str, torch.dtype]:
    names = {
        "BOOL": "bool",
        "U8": "uint8",
        "I8": "int8",
        "F8_E5M2": "float8_e5m2",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E8M0": "float8_e8m0fnu",
        "I16": "int16",
        "U16": "uint16",
        "F16": "float16",
        "BF16": "bfloat16",
        "I32": "int32",
        "U32": "uint32",
        "F32": "float32",
        "I64": "int64",
        "U64": "uint64",
        "F64": "float64",
        "C64": "complex64",
    }
    return {ours: getattr(torch, theirs) for ours, theirs in names.items() if hasattr(torch, theirs)}


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch type for safetensors' spelling.

    Raises:
        WeightsError: This torch has no such type.
    """
    if name not in _dtypes():
        message = f"tensor type {name!r}: this torch ({torch.__version__}) does not have it; upgrade torch"
        raise WeightsError(message)
    return _dtypes()[name]


def dtype_name(dtype: torch.dtype) -> str:
    """Return safetensors' spelling of a torch type.

    Raises:
        WeightsError: safetensors has no such type.
    """
    for name, value in _dtypes().items():
        if value == dtype:
            return name
    message = f"tensor type {dtype}: not known to safetensors; convert the tensor first"
    raise WeightsError(message)


def oddity(tensor: Tensor) -> str:
    """Return what keeps a tensor from being plain values in memory, or an empty text."""
    if tensor.is_meta:
        return "on the meta device"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return "sparse or quantized"
    return "" if type(tensor) in (Tensor, torch.nn.Parameter) else f"a {type(tensor).__name__}"


def read_tensors(
    path: Path | str, names: Iterable[str] | None = None, *, header: Header | None = None
) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, all or those called ``names``.

    Changing them does not change the file. The file must not be changed in place while they are in use.

    Raises:
        WeightsError: The file cannot be read, is damaged, or has no tensor of a name.
    """
    header = header or read_header(path)
    wanted = list(header.tensors if names is None else names)
    missing = [n for n in wanted if n not in header.tensors]
    if missing:
        message = f"{path}: no tensor {missing[0]!r}, expected one of the {len(header.tensors)} in the file"
        raise WeightsError(message)
    try:
        with open(path, "rb", buffering=0) as file:
            size = file.seek(0, 2)
            mapped = _mapped(path, size, [header.tensors[n] for n in wanted])
            return {name: _read(file, mapped, header.tensors[name], path) for name in wanted}
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror or error}); nothing was loaded"
        raise WeightsError(message) from error


def _in_place(info: TensorInfo) -> bool:
    return info.start % _ALIGNMENT == 0 and info.end - info.start >= _SMALL


def _mapped(path: Path | str, size: int, infos: Iterable[TensorInfo]) -> Tensor | None:
    """Return the file as a private mapping, if any of the tensors can be used in it."""
    if not any(map(_in_place, infos)):
        return None
    storage = torch.UntypedStorage.from_file(str(path), False, size)
    return torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage, 0, (size,))  # type: ignore[call-overload,no-any-return]


def _read(file: Any, mapped: Tensor | None, info: TensorInfo, path: Path | str) -> Tensor:
    dtype = torch_dtype(info.dtype)
    if mapped is not None and _in_place(info):
        return mapped[info.start : info.end].view(dtype).view(info.shape)
    tensor = torch.empty(info.shape, dtype=dtype, device="cpu")
    count = info.end - info.start
    if count:
        view = memoryview((ctypes.c_char * count).from_address(tensor.data_ptr())).cast("B")
        file.seek(info.start)
        done = 0
        while done < count:
            step = file.readinto(view[done:])
            if not step:
                message = (
                    f"{path}: ends at byte {info.start + done}, its header promises {info.end}; nothing was loaded"
                )
                raise WeightsError(message)
            done += step
    return tensor


def tensor_chunks(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a safetensors file of ``tensors``, one tensor at a time; what lies on the CPU is not copied.

    Tensors that share memory are written each for itself, since the format cannot say that two are one.

    Raises:
        WeightsError: A tensor has no memory (meta device), is sparse or quantized, or of a type unknown to the format.
    """
    for name, tensor in tensors.items():
        if kind := oddity(tensor):
            message = f"tensor {name!r}: is {kind}, expected a dense tensor with values; materialise it first"
            raise WeightsError(message)
    head, order = encode_header({k: (dtype_name(v.dtype), tuple(v.shape)) for k, v in tensors.items()}, metadata)
    yield head
    for name in order:
        tensor = tensors[name].detach().resolve_conj().resolve_neg().cpu().contiguous()
        count = tensor.numel() * tensor.element_size()
        if count:
            yield memoryview((ctypes.c_char * count).from_address(tensor.data_ptr())).cast("B")
