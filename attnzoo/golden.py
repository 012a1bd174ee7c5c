"""Golden files: prove that a block computes what a reference computed.

A golden file (safetensors) holds the inputs, tensors, outputs and gradients of one call of a reference, and in its
metadata which reference, how it was constructed and called. `verify` finds the dialect for it among the installed
cards, builds the block with the translated arguments, loads the translated tensors, calls it, and compares.
"""

import copy
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.arguments import full_arguments
from attnzoo.card import Dialect, fold
from attnzoo.errors import AttnZooError, DialectError, ExpressionError, GoldenError, WeightsError
from attnzoo.expression import evaluate
from attnzoo.registry import Entry, Registry
from attnzoo.weights.dialects import applies, bind_arguments, our_arguments, to_ours, translation
from attnzoo.weights.header import read_header
from attnzoo.weights.tensors import read_tensors

__all__ = ["Comparison", "GoldenFile", "Verdict", "find_dialects", "read_golden", "verify"]

VALUE_TOLERANCE = 2e-5
GRADIENT_TOLERANCE = 5e-5
_GROUPS = ("input", "output", "cotangent", "grad_input", "state", "map")


@dataclass(frozen=True)
class GoldenFile:
    """A golden file, read: ``groups[group][name]`` are its tensors, the unnamed one under ``""``."""

    path: Path
    metadata: Mapping[str, str]
    groups: Mapping[str, Mapping[str, Tensor]]
    after: Mapping[str, Tensor]  # state after the call, for files in train mode

    @property
    def call(self) -> dict[str, Any]:
        """The extra arguments of the reference's call."""
        value: dict[str, Any] = _json(self.metadata.get("call_arguments", ""), {})
        return value

    @property
    def constructor(self) -> tuple[list[Any], dict[str, Any]]:
        """The positional and keyword arguments of the reference's constructor."""
        value = _json(self.metadata.get("constructor", ""), {})
        return _plain(value.get("args", [])), _plain(value.get("kwargs", {}))


@dataclass(frozen=True)
class Comparison:
    """One tensor compared: its name, the error relative to its scale, and what is tolerated."""

    name: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the error is within the tolerance (NaN never is)."""
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Verdict:
    """The result for one file: what was built and every comparison, or the ``problem`` that left nothing to compare."""

    path: Path
    block: str = ""
    dialect: str = ""
    arguments: Mapping[str, Any] | None = None
    comparisons: tuple[Comparison, ...] = ()
    unmapped: Mapping[str, str] | None = None
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything matched."""
        return not self.problem and bool(self.comparisons) and all(c.ok for c in self.comparisons)

    def worst(self, prefix: str) -> float | None:
        """Return the largest error of the comparisons whose name starts with ``prefix``."""
        errors = [c.error for c in self.comparisons if c.name.startswith(prefix)]
        return max(errors) if errors else None


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
    for key, tensor in tensors.items():
        group, _, name = key.partition(".")
        if group in groups and not (group == "output" and name.startswith("state.") and name[6:] in state):
            groups[group][name] = tensor
        else:
            after[_after_key(key, state)] = tensor
    return GoldenFile(path, metadata, groups, after)


def _after_key(key: str, state: Iterable[str]) -> str:
    """Return the state key of a tensor such as ``state_after.bn.running_mean``: the longest that ends its name."""
    hits = [s for s in state if key.endswith("." + s)]
    return max(hits, key=len) if hits else key


def find_dialects(golden: GoldenFile, registry: Registry) -> list[tuple[Entry, Dialect, dict[str, Any]]]:
    """Return the block, the dialect and their bound arguments for a golden file.

    Several dialects of one block are all returned, the one that the file is named after first: a reference that was
    changed after construction is told apart by its numbers alone.

    Raises:
        GoldenError: No dialect, or dialects of several blocks.
    """
    found: list[tuple[Entry, Dialect, dict[str, Any]]] = []
    problems: list[str] = []
    for entry, dialect in _candidates(golden, registry):
        try:
            bound = bind_arguments(dialect, *golden.constructor)
            if applies(dialect, bound):
                found.append((entry, dialect, bound))
        except (DialectError, ExpressionError) as error:
            problems.append(f"{entry.id}: {error}")
    found.sort(key=lambda f: not _is_named_after(golden.path, f[1]))
    named = [f for f in found if _is_named_after(golden.path, f[1])] or found
    if len({entry.id for entry, _, _ in named}) > 1:  # one class, copied into two plugins: the file says which is meant
        named = [f for f in named if fold(f[0].card.name) == fold(golden.metadata.get("block", ""))] or named
    if len({entry.id for entry, _, _ in named}) == 1:
        first = named[0][0].id
        return [f for f in found if f[0].id == first]
    what = ", ".join(f"{k} {golden.metadata.get(k, '')!r}" for k in ("block", "reference", "class", "file"))
    if found:
        names = " and ".join(f"{e.id} ({d.name})" for e, d, _ in found)
        message = f"{golden.path}: {len(found)} dialects fit ({names}), expected one; {what}"
        raise GoldenError(message)
    reasons = f" ({'; '.join(problems)})" if problems else ""
    message = f"{golden.path}: no dialect fits{reasons}; {what}; add one to the block's card"
    raise GoldenError(message)


def _is_named_after(path: Path, dialect: Dialect) -> bool:
    """Return whether the reference in the file's name (``block--reference--case``) is the dialect's name.

    It tells apart two ways to call one class of one repository, which the metadata spell the same.
    """
    parts = path.stem.split("--")
    return len(parts) > 1 and fold(parts[1]) == fold(dialect.name)


def _candidates(golden: GoldenFile, registry: Registry) -> Iterator[tuple[Entry, Dialect]]:
    for entry in registry:
        if entry.card.path is not None:
            for dialect in entry.card.dialects.values():
                if _fits(golden.metadata, dialect):
                    yield entry, dialect


def _fits(metadata: Mapping[str, str], dialect: Dialect) -> bool:
    origin = dialect.origin
    wanted = {
        "code": re.sub(r"\s*\(.*\)$", "", metadata.get("reference", "")),
        "class": metadata.get("class", ""),
        "file": metadata.get("file", ""),
    }
    if metadata.get("block") not in dialect.golden:
        return False
    if str(origin.get("code", "")).removeprefix("github.com/").lower() != wanted["code"].lower():
        return False
    return all(str(origin.get(k) or wanted[k]) == wanted[k] or not wanted[k] for k in ("class", "file"))


def verify(path: Path | str, registry: Registry) -> Verdict:
    """Compare a block with one golden file. Whatever prevents the comparison is told in ``Verdict.problem``.

    Where several dialects of the block fit, the first that matches is reported, or else the first.
    """
    path = Path(path)
    try:
        golden = read_golden(path)
        found = find_dialects(golden, registry)
    except AttnZooError as error:
        return Verdict(path, problem=str(error))
    first = _verdict(golden, *found[0])
    others = (_verdict(golden, *other) for other in found[1:])
    return first if first.ok else next((verdict for verdict in others if verdict.ok), first)


def _verdict(golden: GoldenFile, entry: Entry, dialect: Dialect, bound: Mapping[str, Any]) -> Verdict:
    path, block, dialect_name = golden.path, entry.id, dialect.name
    arguments: Mapping[str, Any] | None = None
    try:
        shapes = {k: list(v.shape) for k, v in golden.groups["state"].items()}
        arguments = our_arguments(dialect, bound, golden.call, shapes)
        comparisons = _compare_all(golden, entry, dialect, bound, arguments)
    except AttnZooError as error:
        return Verdict(path, block, dialect_name, arguments, problem=str(error))
    except Exception as error:
        # A block may fail in any way on a file it was never tried with; one file must not stop the others.
        return Verdict(path, block, dialect_name, arguments, problem=f"{path}: {type(error).__name__}: {error}")
    unmapped = dict(dialect.call.get("unmapped") or {})
    return Verdict(path, block, dialect_name, arguments, tuple(comparisons), unmapped)


def _compare_all(
    golden: GoldenFile, entry: Entry, dialect: Dialect, bound: Mapping[str, Any], arguments: Mapping[str, Any]
) -> list[Comparison]:
    cls = entry.card.load_class()
    module = cls(**arguments)
    steps = translation(dialect, full_arguments(cls, arguments), {k: v.shape for k, v in module.state_dict().items()})
    load_foreign(module, steps, golden.groups["state"], dialect.ignore, entry.id)
    module.train(golden.metadata.get("mode") == "train")
    twin = copy.deepcopy(module)
    method = getattr(module, dialect.call.get("method", "forward"))
    names = {**bound, **golden.call, "call": golden.call}
    leaves = {k: v.requires_grad_() if v.is_floating_point() else v for k, v in golden.groups["input"].items()}
    inputs = _our_inputs(golden, dialect, method, leaves, names)
    names |= {_name("input", k): v for k, v in leaves.items()}
    result = module(**inputs) if method == module.forward else method(**inputs)
    maps = _maps(golden, dialect, twin, inputs)
    names |= _result_names(result) | maps
    outputs = _their_outputs(golden, dialect, result, names)
    comparisons = [_compare(f"output{_dot(k)}", outputs[k], v) for k, v in golden.groups["output"].items()]
    comparisons += _compare_gradients(golden, outputs, leaves)
    comparisons += _compare_maps(golden, dialect, maps, names)
    if golden.after:
        after, _, _ = to_ours(steps, {**golden.groups["state"], **golden.after}, dialect.ignore)
        state = module.state_dict()
        comparisons += [_compare(f"buffer.{k}", state[k], v) for k, v in after.items() if _is_buffer(module, k)]
    return comparisons


def load_foreign(
    module: nn.Module, steps: Sequence[Any], state: Mapping[str, Tensor], ignore: Iterable[str], where: str
) -> None:
    """Load their ``state`` into ``module``, strictly."""
    ours, missing, extra = to_ours(steps, state, ignore)
    if missing or extra:
        message = f"{where}: their tensors do not fit the dialect; missing {missing}, unexpected {extra}"
        raise DialectError(message)
    own = module.state_dict()
    for key, tensor in ours.items():
        if own[key].shape != tensor.shape:
            message = f"{where}: tensor {key!r}: shape {tuple(tensor.shape)}, expected {tuple(own[key].shape)}"
            raise DialectError(message)
    module.load_state_dict({**own, **ours})


def _our_inputs(
    golden: GoldenFile, dialect: Dialect, method: Any, leaves: Mapping[str, Tensor], names: Mapping[str, Any]
) -> dict[str, Any]:
    table = dialect.call.get("inputs")
    parameters = list(inspect.signature(method).parameters)
    if table:
        values = {**names, **{_name("input", k): v for k, v in leaves.items()}}
        missing = {_name("input", k): None for k in ("", "mask", "key", "value", "query", *map(str, range(8)))}
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


def _result_names(result: Any) -> dict[str, Any]:
    if isinstance(result, Tensor):
        return {"output": result, "output_0": result}
    if isinstance(result, Mapping):
        return {_name("output", k): v for k, v in result.items()}
    names = {f"output_{i}": v for i, v in enumerate(result)}
    names |= {_name("output", k): getattr(result, k) for k in getattr(result, "_fields", ())}
    return {"output": result[0], **names}


def _their_outputs(golden: GoldenFile, dialect: Dialect, result: Any, names: Mapping[str, Any]) -> dict[str, Tensor]:
    table = dialect.call.get("outputs") or {}
    order = _output_order(golden)
    outputs: dict[str, Tensor] = {}
    for key in golden.groups["output"]:
        spelled = table.get(key or "output", table.get(f"output{_dot(key)}"))
        if spelled is not None:
            outputs[key] = evaluate(str(spelled), names)
        elif key and _name("output", key) in names:
            outputs[key] = names[_name("output", key)]
        else:
            outputs[key] = result if isinstance(result, Tensor) else names[f"output_{order.index(key)}"]
    return outputs


def _output_order(golden: GoldenFile) -> list[str]:
    left = golden.metadata.get("call", "").split("=")[0]
    order = [m.group(1) or "" for m in re.finditer(r"\boutput(?:\.(\w+))?", left)]
    return order if set(order) == set(golden.groups["output"]) else sorted(golden.groups["output"])


def _maps(golden: GoldenFile, dialect: Dialect, module: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    if not golden.groups["map"] or not hasattr(module, "attention"):
        return {}
    known = inspect.signature(module.attention).parameters  # type: ignore[arg-type]
    with torch.no_grad():
        maps: dict[str, Tensor] = module.attention(**{k: v for k, v in inputs.items() if k in known})  # type: ignore[operator]
    return dict(maps)


def _compare_maps(
    golden: GoldenFile, dialect: Dialect, maps: Mapping[str, Tensor], names: Mapping[str, Any]
) -> Iterator[Comparison]:
    table, unmapped = dialect.call.get("maps") or {}, dialect.call.get("unmapped") or {}
    for key, stored in golden.groups["map"].items():
        if key in unmapped:
            continue
        if key in table:
            yield _compare(f"map.{key}", evaluate(str(table[key]), names), stored)
        elif key in maps:
            yield _compare(f"map.{key}", maps[key], stored)
        else:
            known = ", ".join(maps) or "none"
            yield Comparison(f"map.{key}", float("inf"), VALUE_TOLERANCE, f"the block shows no such map, only {known}")


def _compare_gradients(
    golden: GoldenFile, outputs: Mapping[str, Tensor], leaves: Mapping[str, Tensor]
) -> Iterator[Comparison]:
    wanted = golden.groups["grad_input"]
    terms = [(outputs[k] * c).sum() for k, c in golden.groups["cotangent"].items()]
    if not wanted or not terms:
        return
    keys = list(wanted)
    gradients = torch.autograd.grad(torch.stack(terms).sum(), [leaves[k] for k in keys], allow_unused=True)
    for key, gradient in zip(keys, gradients, strict=True):
        value = torch.zeros_like(wanted[key]) if gradient is None else gradient
        yield _compare(f"grad_input{_dot(key)}", value, wanted[key], GRADIENT_TOLERANCE)


def _compare(name: str, value: Any, stored: Tensor, tolerance: float = VALUE_TOLERANCE) -> Comparison:
    if not isinstance(value, Tensor):
        return Comparison(name, float("inf"), tolerance, f"a {type(value).__name__}, expected a tensor")
    if value.shape != stored.shape:
        note = f"shape {tuple(value.shape)}, expected {tuple(stored.shape)}"
        return Comparison(name, float("inf"), tolerance, note)
    if not stored.numel():
        return Comparison(name, 0.0, tolerance)
    value, stored = value.detach().double(), stored.detach().double()
    same = (value == stored) | (value.isnan() & stored.isnan())
    difference = torch.where(same, 0.0, (value - stored).abs()).max().item()
    finite = stored[stored.isfinite()]
    largest = finite.abs().max().item() if finite.numel() else 1.0
    # Errors count relative to the largest entry, or absolutely where it is below 1; tiny tensors are not let off.
    scale = 1.0 if 1e-2 <= largest <= 1 else max(largest, 1e-30)
    return Comparison(name, difference / scale, tolerance)


def _is_buffer(module: nn.Module, key: str) -> bool:
    return any(key == name for name, _ in module.named_buffers())


def _dot(key: str) -> str:
    return f".{key}" if key else ""


def _name(group: str, key: str) -> str:
    return f"{group}_{key}".rstrip("_").replace(".", "_")


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
