"""What a module or a host with inserted blocks costs: parameters, FLOPs, memory for training, time on this machine."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.surgery.dry_run import dry_run
from attnzoo.surgery.inputs import Call
from attnzoo.surgery.life import Insertion, disabled, inserted
from attnzoo.surgery.preserve import preserved
from attnzoo.surgery.probing import probe
from attnzoo.surgery.report import human

__all__ = ["Cost", "Profile", "Time", "profile"]


@dataclass(frozen=True)
class Time:
    """Seconds of one forward pass: the median and the quartiles of ``runs`` runs on this machine."""

    median: float
    low: float
    high: float
    runs: int

    def __str__(self) -> str:
        return f"{1e3 * self.median:.3g} ms ({1e3 * self.low:.3g} to {1e3 * self.high:.3g})"


@dataclass(frozen=True)
class Cost:
    """What one part costs for one call of the whole.

    Attributes:
        name: What it is: a site and block, or the host.
        parameters: Numbers that can be learned.
        flops: Two for each multiply-add (MAC) of matrix products and convolutions, counted where they are dispatched.
        activation_bytes: Memory of the tensors that a training step keeps for the backward pass, without parameters.
        time: Time of a forward pass in eval mode without gradients, None if it was not measured.
    """

    name: str
    parameters: int
    flops: int
    activation_bytes: int
    time: Time | None = None

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.flops // 2


@dataclass(frozen=True)
class Profile:
    """Costs of a module: as it is, without its inserted blocks, and of each of them alone."""

    module: str
    inputs: str
    device: str
    threads: int
    whole: Cost
    bare: Cost | None
    blocks: tuple[Cost, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; times in seconds, memory in bytes."""
        data = asdict(self)
        for cost in (data["whole"], data["bare"], *data["blocks"]):
            if cost is not None:
                cost["macs"] = cost["flops"] // 2
        return data

    def __str__(self) -> str:
        costs = [self.whole, *([self.bare] if self.bare else []), *self.blocks]
        heads = ("part", "parameters", "MACs", "FLOPs", "kept for backward", "forward")
        lines = [heads, *(_cells(cost) for cost in costs)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        about = (
            f"{self.module} on {self.device} at input {self.inputs}, {self.threads} threads; FLOPs are 2 x MACs "
            "of matrix products and convolutions; forward: median (quartiles)"
        )
        return "\n".join([about, *table])


def profile(module: nn.Module, inputs: object = None, *, runs: int = 20, warmup: int = 3) -> Profile:
    """Measure ``module``; of a host with inserted blocks also what it cost without them, and each block.

    Args:
        module: A block or a host.
        inputs: What to run it with, see :func:`attnzoo.surgery.probe`; guessed if left out.
        runs: Timed forward passes; 0 leaves time out.
        warmup: Passes before them.

    Raises:
        SurgeryError: The module could be run with none of the inputs.
    """
    items = inserted(module)
    call = probe(module, [], inputs).call
    whole = _cost(type(module).__name__, module, call)
    bare = None
    if items:
        bare = _bare(module, call, items)
    blocks = [_block_cost(item, _seen_inputs(module, item, call)) for item in items]
    if runs:
        whole, bare, blocks = _timed(module, call, (whole, bare, blocks), items, (runs, warmup))
    device = next((p.device.type for p in module.parameters()), "cpu")
    return Profile(type(module).__name__, str(call), device, torch.get_num_threads(), whole, bare, tuple(blocks))


def _cost(name: str, module: nn.Module, call: Call) -> Cost:
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Cost(name, parameters, _flops(module, call), _activation_bytes(module, call))


def _bare(host: nn.Module, call: Call, items: Sequence[Insertion]) -> Cost:
    own = {parameter for item in items for parameter in item.module.parameters()}
    with disabled(host):
        cost = _cost(f"{type(host).__name__} without blocks", host, call)
    return Cost(cost.name, cost.parameters - sum(p.numel() for p in own), cost.flops, cost.activation_bytes)


def _block_cost(item: Insertion, calls: Sequence[Call]) -> Cost:
    costs = [_cost(item.key, item.module, call) for call in calls]
    parameters = sum(parameter.numel() for parameter in item.module.parameters())
    return Cost(item.key, parameters, sum(c.flops for c in costs), sum(c.activation_bytes for c in costs))


def _seen_inputs(host: nn.Module, item: Insertion, call: Call) -> list[Call]:
    """Return the calls of one inserted block in a run of the host, with tensors of the same shapes."""
    seen: list[Call] = []

    def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(Call(tuple(torch.zeros(t.shape, dtype=t.dtype, device=t.device) for t in args), {}))

    handle = item.module.register_forward_pre_hook(note)
    try:
        with preserved(host), torch.no_grad():
            host.eval()
            host(*call.args, **call.kwargs)
    finally:
        handle.remove()
    return seen


def _flops(module: nn.Module, call: Call) -> int:
    """Return the FLOPs of one call in eval mode, with fake tensors if that is possible."""
    for faked in (True, False):
        with dry_run(module, faked) as (counter, mode):
            here = call if mode is None else call.mapped(mode.from_tensor)
            try:
                module(*here.args, **here.kwargs)
                return counter.get_total_flops()
            except Exception:
                if not faked:
                    raise
    raise AssertionError


def _activation_bytes(module: nn.Module, call: Call) -> int:
    """Return the bytes that one training-mode forward keeps for the backward pass, shared memory counted once."""
    kept: dict[int, int] = {}
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    here = call.mapped(lambda t: t.detach().requires_grad_() if t.is_floating_point() else t)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with preserved(module), torch.enable_grad(), hooks:
        try:
            output = module.train()(*here.args, **here.kwargs)
        except ValueError:  # a batch norm over a single value cannot be trained; its memory in eval mode is the same
            kept.clear()
            output = module.eval()(*here.args, **here.kwargs)
    del output
    return sum(kept.values())


def _timed(
    module: nn.Module,
    call: Call,
    costs: tuple[Cost, Cost | None, list[Cost]],
    items: Sequence[Insertion],
    how: tuple[int, int],
) -> tuple[Cost, Cost | None, list[Cost]]:
    """Return the costs with times; with and without blocks are measured in turn, so that a busy machine harms both."""
    whole, bare, blocks = costs
    tasks: list[Callable[[], object]] = [_forward(module, call, off=False)]
    if bare is not None:
        tasks.append(_forward(module, call, off=True))
    for item in items:
        calls = _seen_inputs(module, item, call)
        tasks.append(lambda item=item, calls=calls: [item.module(*one.args) for one in calls])  # type: ignore[misc]
    with preserved(module), torch.no_grad():
        module.eval()
        times = _measure(tasks, *how)
    costs_in_order = [cost for cost in (whole, bare) if cost] + blocks
    done = [replace(cost, time=spread) for cost, spread in zip(costs_in_order, times, strict=True)]
    return done[0], (done[1] if bare else None), done[2 if bare else 1 :]


def _forward(module: nn.Module, call: Call, *, off: bool) -> Callable[[], object]:
    def run() -> object:
        with disabled(module) if off else nullcontext():
            return module(*call.args, **call.kwargs)

    return run


def _measure(tasks: Sequence[Callable[[], object]], runs: int, warmup: int) -> list[Time]:
    seconds: list[list[float]] = [[] for _ in tasks]
    for turn in range(warmup + runs):
        for task, times in zip(tasks, seconds, strict=True):
            start = _now()
            task()
            if turn >= warmup:
                times.append(_now() - start)
    return [_time(times) for times in seconds]


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _time(seconds: list[float]) -> Time:
    low, median, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else (seconds[0],) * 3
    return Time(median, low, high, len(seconds))


def _cells(cost: Cost) -> tuple[str, ...]:
    kept = f"{human(cost.activation_bytes)}B"
    timed = str(cost.time) if cost.time else "-"
    return (cost.name, human(cost.parameters), human(cost.macs), human(cost.flops), kept, timed)
