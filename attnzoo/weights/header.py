"""The header of a safetensors file: names, types, shapes and places of its tensors. Neither torch nor safetensors.

A safetensors file is eight bytes (the header's length, little-endian), the header (JSON), and the tensors' bytes
without gaps. Reading the header of a file of any size takes milliseconds, so a checkpoint is listed without being
loaded.
"""

import json
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from attnzoo.errors import WeightsError

__all__ = ["ITEM_SIZES", "Header", "TensorInfo", "encode_header", "is_text", "other_format", "read_header"]

ITEM_SIZES: Mapping[str, int] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
    "C64": 8,
}
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors library
_ALIGNMENT = 64  # bytes; torch allocates so, and some kernels round otherwise on other addresses
_OTHERS: Mapping[bytes, str] = {
    b"version https://": "a Git LFS pointer, expected the file that it stands for; run: git lfs pull",
    b"<": "a web page or XML, expected weights; what was fetched is not the file itself",
    b"PK\x03\x04": "a torch file or another zip archive, expected a safetensors file; see: attnzoo scan {path}",
    b"\x80": "a torch file of the old kind, expected a safetensors file; see: attnzoo scan {path}",
    b"{": "a JSON text, expected a safetensors file; an index of several is for: attnzoo scan {path}",
}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file: its type in safetensors' spelling, shape, and the bytes it takes (``start`` to ``end``)."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself; ``start`` and ``end`` of its tensors count from the file's begin."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


def read_header(path: Path | str) -> Header:
    """Read and check the header of a safetensors file.

    Raises:
        WeightsError: No such file, or not a whole safetensors file: all tensors must lie in it, without gap or overlap.
    """
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
            if length > min(_MAX_HEADER, size - 8):
                if other := other_format(path, head + file.read(8)):
                    raise WeightsError(other)
                raise _damaged(path, "the header is longer than the file" if size else "it is empty")
            text = file.read(length)
    except FileNotFoundError as error:
        message = f"{path}: no such file"
        raise WeightsError(message) from error
    except WeightsError:
        raise
    except IsADirectoryError as error:
        message = f"{path}: a folder, expected a safetensors file; see: attnzoo scan {path}"
        raise WeightsError(message) from error
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        message = f"{path}: cannot be read ({reason})"
        raise WeightsError(message) from error
    return _checked(path, _parsed(path, text), 8 + length, size)


def other_format(path: Path | str, head: bytes) -> str:
    """Return the error text for a file that begins with ``head`` as one of another kind does, or an empty text."""
    for start, what in _OTHERS.items():
        if head.startswith(start):
            return f"{path}: {what.format(path=path)}"
    return ""


def _damaged(path: Path | str, reason: str) -> WeightsError:
    return WeightsError(f"{path}: not a whole safetensors file ({reason}); nothing was loaded")


def _parsed(path: Path | str, text: bytes) -> dict[str, Any]:
    try:
        data = json.loads(text.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError, MemoryError) as error:
        raise _damaged(path, f"the header is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise _damaged(path, f"the header is a {type(data).__name__}, expected an object")
    return data


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        message = f"a name is given twice: {twice!r}"
        raise ValueError(message)
    return result


def _checked(path: Path | str, data: dict[str, Any], begin: int, size: int) -> Header:
    metadata = data.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _damaged(path, "__metadata__ is not a mapping of texts")
    tensors = {name: _info(path, name, value, begin) for name, value in data.items()}
    if not is_text("".join(data)):
        raise _damaged(path, "a tensor's name is not valid text")
    position = begin
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != position:
            raise _damaged(path, f"tensor {name!r} starts at byte {info.start}, expected {position}")
        position = info.end
    if position != size:
        raise _damaged(path, f"its tensors end at byte {position}, the file has {size}")
    return Header(tensors, metadata)


def is_text(name: str) -> bool:
    """Say whether a name is text: JSON and pickle can say halves of characters, which cannot be printed."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _info(path: Path | str, name: str, value: Any, begin: int) -> TensorInfo:
    try:
        dtype, shape, (start, end) = value["dtype"], value["shape"], value["data_offsets"]
        numbers = [*shape, start, end]
    except (TypeError, KeyError, ValueError) as error:
        raise _damaged(path, f"tensor {name!r} is not described by dtype, shape and data_offsets") from error
    if any(type(n) is not int or n < 0 or n > 2**62 for n in numbers):
        raise _damaged(path, f"tensor {name!r} has a shape or offsets that are not whole numbers from 0 on")
    if not isinstance(dtype, str) or dtype not in ITEM_SIZES:
        raise _damaged(path, f"tensor {name!r} has type {dtype!r}, expected one of {', '.join(ITEM_SIZES)}")
    wanted = prod(shape) * ITEM_SIZES[dtype]
    if end - start != wanted:
        raise _damaged(path, f"tensor {name!r} has {end - start} bytes, its shape needs {wanted}")
    if not wanted and prod(filter(None, shape)) > 2**59:
        raise _damaged(path, f"tensor {name!r} has sizes {shape}, which no tensor can have")
    return TensorInfo(dtype, tuple(shape), begin + start, begin + end)


def encode_header(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[bytes, list[str]]:
    """Return the bytes before the tensors, and the order in which to write the tensors.

    Those whose size is a multiple of 64 bytes come first, from an address that is one, so that they can be used where
    they lie in the mapped file.

    Args:
        tensors: Name to type (in safetensors' spelling) and shape.
        metadata: Texts to keep in the header.
    """
    sizes = {name: prod(shape) * ITEM_SIZES[dtype] for name, (dtype, shape) in tensors.items()}
    order = sorted(tensors, key=lambda n: (sizes[n] % _ALIGNMENT != 0, -ITEM_SIZES[tensors[n][0]], n))
    table: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    position = 0
    for name in order:
        dtype, shape = tensors[name]
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + sizes[name]]}
        position += sizes[name]
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text, order
