"""Verify a block against a golden file: build, load, call, compare."""

import copy
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.arguments import full_arguments
from attnzoo.card import Dialect
from attnzoo.errors import AttnZooError, DialectError
from attnzoo.golden.call import dotted, name_of, our_inputs, our_maps, result_names, their_outputs
from attnzoo.golden.compare import Comparison, compare, compare_gradients, compare_maps, without_rounding
from attnzoo.golden.files import GoldenFile, read_golden
from attnzoo.golden.match import find_dialects
from attnzoo.registry import Entry, Registry
from attnzoo.weights.binding import our_arguments
from attnzoo.weights.dialects import to_ours, translation

__all__ = ["Verdict", "load_foreign", "verify"]


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
        compared = functools.partial(_compare_all, golden, entry, dialect, bound, arguments)
        comparisons = without_rounding(compared(torch.float32), functools.partial(compared, torch.float64))
    except AttnZooError as error:
        return Verdict(path, block, dialect_name, arguments, problem=str(error))
    except Exception as error:
        # A block may fail in any way on a file it was never tried with; one file must not stop the others.
        return Verdict(path, block, dialect_name, arguments, problem=f"{path}: {type(error).__name__}: {error}")
    unmapped = dict(dialect.call.get("unmapped") or {})
    return Verdict(path, block, dialect_name, arguments, tuple(comparisons), unmapped)


def _compare_all(
    golden: GoldenFile,
    entry: Entry,
    dialect: Dialect,
    bound: Mapping[str, Any],
    arguments: Mapping[str, Any],
    dtype: torch.dtype,
) -> list[Comparison]:
    cls = entry.card.load_class()
    module = cls(**arguments)
    steps = translation(dialect, full_arguments(cls, arguments), {k: v.shape for k, v in module.state_dict().items()})
    load_foreign(module, steps, golden.groups["state"], dialect.ignore, entry.id)
    module.to(dtype).train(golden.metadata.get("mode", "").startswith("train"))
    twin = copy.deepcopy(module)
    method = getattr(module, dialect.call.get("method", "forward"))
    names = {**bound, **golden.call, "call": golden.call}
    leaves = {k: _leaf(v, dtype) if v.is_floating_point() else v for k, v in golden.groups["input"].items()}
    inputs = our_inputs(golden, dialect, method, leaves, names)
    names |= {name_of("input", k): v for k, v in leaves.items()}
    result = module(**inputs) if method == module.forward else method(**inputs)
    maps = our_maps(golden, dialect, twin, inputs)
    names |= result_names(result) | maps
    outputs = their_outputs(golden, dialect, result, names)
    comparisons = [compare(f"output{dotted(k)}", outputs[k], v) for k, v in golden.groups["output"].items()]
    comparisons += compare_gradients(golden, outputs, leaves)
    comparisons += compare_maps(golden, dialect, maps, names)
    if golden.after:
        after, _, _ = to_ours(steps, {**golden.groups["state"], **golden.after}, dialect.ignore)
        comparisons += _compare_buffers(module, after)
    return comparisons


def _compare_buffers(module: nn.Module, after: Mapping[str, Tensor]) -> list[Comparison]:
    state = module.state_dict()
    return [compare(f"buffer.{k}", state[k], v) for k, v in after.items() if _is_buffer(module, k)]


def _leaf(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to(dtype, copy=True).requires_grad_()


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


def _is_buffer(module: nn.Module, key: str) -> bool:
    return any(key == name for name, _ in module.named_buffers())
