"""Run a host once, with fake tensors if it can be, and note what passes its sites."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
)

from attnzoo.errors import SurgeryError
from attnzoo.surgery.dry_run import dry_run
from attnzoo.surgery.inputs import Call, candidates, given_call
from attnzoo.surgery.values import Slot, first_slot, get

__all__ = ["Probe", "Seen", "Sight", "probe"]

_NOT_FAKEABLE = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException)
_SMALL = 64 * 64


@dataclass(frozen=True)
class Sight:
    """A tensor that passed a site: where in the value it was, and what it was."""

    slot: Slot
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


@dataclass
class Seen:
    """What passed one site: the first tensor of each call's inputs (``before``) and outputs (``after``)."""

    name: str
    class_name: str
    before: list[Sight | None] = field(default_factory=list)
    after: list[Sight | None] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """How often the module was called."""
        return len(self.after)


@dataclass(frozen=True)
class Probe:
    """The result of one run: the sites in the host's order, the call, FLOPs of the whole, and whether it was faked."""

    sites: dict[str, Seen]
    call: Call
    flops: int
    faked: bool


def probe(host: nn.Module, names: Iterable[str], inputs: object = None) -> Probe:
    """Run ``host`` in eval mode, without gradients, and return what passed the modules ``names``.

    The host is left as it was. With ``inputs=None`` inputs are guessed from its first layer.

    Raises:
        SurgeryError: The host could be run with none of the inputs.
    """
    names = list(names)
    failures: list[str] = []
    for faked in (True, False):
        calls = candidates(host) if inputs is None else [given_call(host, inputs)]
        for call in calls if faked else _small_first(calls):
            try:
                return _run(host, names, call, faked)
            except Exception as error:
                kind = "fake" if faked else "real"
                failures.append(f"{kind} input {call}: {_first_line(error)}")
                if isinstance(error, _NOT_FAKEABLE):
                    break
    raise SurgeryError(_no_run(host, inputs, failures))


def _run(host: nn.Module, names: Sequence[str], call: Call, faked: bool) -> Probe:
    sites = {name: Seen(name, type(host.get_submodule(name)).__name__) for name in names}
    with dry_run(host, faked) as (counter, mode):
        for name, seen in sites.items():
            _watch(host.get_submodule(name), seen)
        here = call if mode is None else call.mapped(mode.from_tensor)
        host(*here.args, **here.kwargs)
        flops = counter.get_total_flops()
    return Probe(sites, call, flops, faked)


def _watch(module: nn.Module, seen: Seen) -> None:
    """Add hooks that note what passes; ``dry_run`` takes them away."""

    def before(_: nn.Module, args: Any, kwargs: Any) -> None:
        seen.before.append(_sight((args, kwargs)))

    def after(_: nn.Module, __: Any, output: Any) -> None:
        seen.after.append(_sight(output))

    module.register_forward_pre_hook(before, with_kwargs=True)
    module.register_forward_hook(after)


def _sight(value: object) -> Sight | None:
    slot = first_slot(value)
    if slot is None:
        return None
    tensor = get(value, slot)
    return Sight(slot, tuple(int(size) for size in tensor.shape), tensor.dtype, tensor.device)


def _small_first(calls: Iterable[Call]) -> list[Call]:
    """Order calls for real runs: from about 64 x 64 pixels up, then the smaller ones, which leave maps of 1 x 1."""
    sizes = [(sum(arg.numel() for arg in call.args if isinstance(arg, torch.Tensor)), call) for call in calls]
    return [call for _, call in sorted(sizes, key=lambda pair: (pair[0] < _SMALL, pair[0]))]


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


def _no_run(host: nn.Module, inputs: object, failures: list[str]) -> str:
    name = type(host).__name__
    if not failures:
        return f"host {name}: no inputs could be guessed; give inputs=… (a tensor, shape, tuple or dict)"
    tried = "\n  ".join(dict.fromkeys(failures[-3:]))
    advice = "give other inputs" if inputs is not None else "give inputs=… (a tensor, shape, tuple or dict)"
    return f"host {name}: it could not be run to see the shapes at its sites; {advice}\n  {tried}"
