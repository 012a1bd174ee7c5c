"""Golden files, read: tensors by group, and the metadata that say which reference made them."""

import ast
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from attnzoo.errors import GoldenError, WeightsError
from attnzoo.weights.header import read_header
from attnzoo.weights.tensors import read_tensors

__all__ = ["GoldenFile", "read_golden"]

_GROUPS = ("input", "output", "cotangent", "grad_input", "state", "map")
_LATER = {"after", "later", "updated"}


@dataclass(frozen=True)
class GoldenFile:
    """A golden file, read: ``groups[group][name]`` are its tensors, the unnamed one under ``""``."""

    path: Path
    metadata: Mapping[str, str]
    groups: Mapping[str, Mapping[str, Tensor]]
    after: Mapping[str, Tensor]  # state after the call, for files in train mode

    @property
    def call(self) -> dict[str, Any]:
        """The extra arguments of the reference's call: a mapping in JSON, or keywords as Python writes them."""
        text = self.metadata.get("call_arguments", "")
        value: dict[str, Any] = _json(text, {})
        return value or _keywords(text)

    @property
    def constructor(self) -> tuple[list[Any], dict[str, Any]]:
        """The positional and keyword arguments of the reference's constructor."""
        value = _json(self.metadata.get("constructor", ""), {})
        return _plain(value.get("args", [])), _plain(value.get("kwargs", {}))


def read_golden(path: Path | str) -> GoldenFile:
    """Read a golden file.

    Raises:
        GoldenError: Not a safetensors file, or without the tensors and metadata of a golden file.
    """
    path = Path(path)
    try:
        header = read_header(path)
        metadata, tensors = dict(header.metadata), read_tensors(path, header=header)
    except WeightsError as error:
        message = f"{path}: cannot be read as safetensors ({error}), expected a golden file"
        raise GoldenError(message) from error
    if "constructor" not in metadata or not any(k.split(".")[0] == "output" for k in tensors):
        message = f"{path}: no constructor in the metadata or no output tensor, expected a golden file"
        raise GoldenError(message)
    groups: dict[str, dict[str, Tensor]] = {g: {} for g in _GROUPS}
    after: dict[str, Tensor] = {}
    state = {k.partition(".")[2] for k in tensors if k.startswith("state.")}
    later = _later(state)
    for key, tensor in tensors.items():
        group, _, name = key.partition(".")
        if name in later if group == "state" else group == "output" and _after_key(name, state) != name:
            after[_after_key(name, state - later)] = tensor
        elif group in groups:
            groups[group][name] = tensor
        elif "grad" not in group:
            after[_after_key(key, state - later)] = tensor
    return GoldenFile(path, metadata, groups, after)


def _later(state: Iterable[str]) -> set[str]:
    """Return the keys like ``after.bn.running_mean`` among those of ``state.``: one prefix, before keys also there.

    A submodule with the same names is told apart by its parameters, unless the prefix says that it is no submodule.
    """
    state = set(state)
    for prefix in {key.partition(".")[0] for key in state}:
        keys = {key for key in state if key.startswith(f"{prefix}.")}
        rest = {key.partition(".")[2] for key in keys}
        told = not _LATER.isdisjoint(prefix.split("_"))
        if keys and rest <= state - keys and (told or not any(key.endswith(("weight", "bias")) for key in keys)):
            return keys
    return set()


def _after_key(key: str, state: Iterable[str]) -> str:
    """Return the state key of a tensor such as ``state_after.bn.running_mean``: the longest that ends its name."""
    hits = [s for s in state if key.endswith("." + s)]
    return max(hits, key=len) if hits else key


def _keywords(text: str) -> dict[str, Any]:
    """Return ``{"a": 1}`` for ``a=1``; nothing for text that is no list of keywords with plain values."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        return {k.arg: ast.literal_eval(k.value) for k in getattr(call, "keywords", []) if k.arg}
    except (SyntaxError, ValueError):
        return {}


def _json(text: str, default: Any) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return default
    return value if isinstance(value, type(default)) else default


def _plain(value: Any) -> Any:
    """Return constructor values as dialects see them: tuples as lists; a constructed object stays a mapping."""
    if isinstance(value, dict):
        return _plain(value["tuple"]) if set(value) == {"tuple"} else {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value
