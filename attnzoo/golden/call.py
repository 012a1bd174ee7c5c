"""A reference's call in terms of ours: its inputs, outputs and maps by our names."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.card import Dialect
from attnzoo.errors import DialectError
from attnzoo.expression import evaluate, names_in
from attnzoo.golden.files import GoldenFile

__all__ = ["dotted", "name_of", "our_inputs", "our_maps", "result_names", "their_outputs"]


def our_inputs(
    golden: GoldenFile, dialect: Dialect, method: Any, leaves: Mapping[str, Tensor], names: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keyword arguments of our call: by the dialect's table, or by name or position."""
    table = dialect.call.get("inputs")
    parameters = list(inspect.signature(method).parameters)
    if table:
        values = {**names, **{name_of("input", k): v for k, v in leaves.items()}}
        used = {name for expression in table.values() for name in names_in(str(expression))}
        missing = dict.fromkeys(name for name in used if name.partition("_")[0] == "input")
        chosen = {_parameter(parameters, k): evaluate(str(v), {**missing, **values}) for k, v in table.items()}
        return {k: v for k, v in chosen.items() if v is not None}
    inputs: dict[str, Any] = {}
    for position, (key, tensor) in enumerate(sorted(leaves.items())):
        named = key and not key.isdigit()
        inputs[_parameter(parameters, key) if named else parameters[int(key) if key else position]] = tensor
    return inputs


def _parameter(parameters: Sequence[str], name: str) -> str:
    """Return the parameter called ``name``, or ``name`` with an axes suffix."""
    if name in parameters:
        return name
    hits = [p for p in parameters if p.rpartition("_")[0] == name]
    if len(hits) == 1:
        return hits[0]
    message = f"call: the block has no input {name!r}, expected one of {', '.join(parameters)}"
    raise DialectError(message)


def result_names(result: Any) -> dict[str, Any]:
    """Return the names under which expressions see our result."""
    if isinstance(result, Tensor):
        return {"output": result, "output_0": result}
    if isinstance(result, Mapping):
        return {name_of("output", k): v for k, v in result.items()}
    names = {f"output_{i}": v for i, v in enumerate(result)}
    names |= {name_of("output", k): getattr(result, k) for k in getattr(result, "_fields", ())}
    return {"output": result[0], **names}


def their_outputs(golden: GoldenFile, dialect: Dialect, result: Any, names: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the reference's outputs, made from ours."""
    table = dialect.call.get("outputs") or {}
    order = _output_order(golden)
    outputs: dict[str, Tensor] = {} if table else _pieces(golden, order, names["output"])
    for key in golden.groups["output"]:
        if key in outputs:
            continue
        spelled = table.get(key or "output", table.get(f"output{dotted(key)}"))
        if spelled is not None:
            outputs[key] = evaluate(str(spelled), names)
        elif key and name_of("output", key) in names:
            outputs[key] = names[name_of("output", key)]
        else:
            outputs[key] = result if isinstance(result, Tensor) else names[f"output_{order.index(key)}"]
    return outputs


def _output_order(golden: GoldenFile) -> list[str]:
    left = golden.metadata.get("call", "").split("=")[0]
    order = [m.group(1) or "" for m in re.finditer(r"\boutput(?:\.(\w+))?", left)]
    return order if set(order) == set(golden.groups["output"]) else sorted(golden.groups["output"], key=_natural)


def _natural(key: str) -> list[Any]:
    """Return a sort key by which ``step10`` comes after ``step9``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", key)]


def _pieces(golden: GoldenFile, order: Sequence[str], ours: Any) -> dict[str, Tensor]:
    """Return our output cut into theirs, where those are consecutive pieces of it, as from a cache fed step by step."""
    theirs = [golden.groups["output"][key].shape for key in order]
    if len(theirs) < 2 or not isinstance(ours, Tensor):
        return {}
    for axis in range(ours.dim()):
        sizes = [shape[axis] for shape in theirs if len(shape) == ours.dim()]
        whole = [(*shape[:axis], ours.shape[axis], *shape[axis + 1 :]) for shape in theirs]
        if len(sizes) == len(theirs) and sum(sizes) == ours.shape[axis] and set(whole) == {tuple(ours.shape)}:
            return dict(zip(order, ours.split(sizes, axis), strict=True))
    return {}


def our_maps(golden: GoldenFile, dialect: Dialect, module: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the maps that our block shows for the same inputs."""
    if not golden.groups["map"] or not hasattr(module, "attention"):
        return {}
    known = inspect.signature(module.attention).parameters  # type: ignore[arg-type]
    with torch.no_grad():
        maps: dict[str, Tensor] = module.attention(**{k: v for k, v in inputs.items() if k in known})  # type: ignore[operator]
    return dict(maps)


def dotted(key: str) -> str:
    """Return ``.key``, or nothing for the unnamed tensor of a group."""
    return f".{key}" if key else ""


def name_of(group: str, key: str) -> str:
    """Return the name of a tensor in expressions: ``input.0`` is ``input_0``."""
    return f"{group}_{key}".rstrip("_").replace(".", "_")
