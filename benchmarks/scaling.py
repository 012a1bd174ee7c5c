"""How time and memory of the sequence blocks grow with the length.

``python benchmarks/scaling.py`` measures forward (``--train``: and backward) at L = 512 ... 16384 and prints, for each
block, the milliseconds and the peak of extra memory at the longest length, and the growth exponents: the slope of
log(time) and of log(memory) over log(length), fitted to the longer half of the lengths. 1 is linear, 2 quadratic.
``--quick`` takes seconds. Time is CPU time of one thread; memory is the peak of what the allocator held during the
call, inputs not counted. Freed memory is kept by the process (mallopt). The profiler, which counts the bytes, writes
lines of its own to stderr.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from common import Step, peak_bytes
from torch import Tensor, nn

import attnzoo
from attnzoo.errors import AttnZooError

WIDTH, HEADS, DIM = 64, 4, 16
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
QUICK_LENGTHS = (256, 512, 1024)


@dataclass(frozen=True)
class Case:
    """A block, its arguments, inputs of a length, and the exponents that it promises (time, memory)."""

    name: str
    arguments: dict[str, object]
    inputs: Callable[[int], list[Tensor]]
    promise: tuple[int, int]
    call: Callable[[nn.Module, list[Tensor]], object] = lambda block, inputs: block(*inputs)


def tokens(length: int) -> list[Tensor]:
    return [torch.randn(1, length, WIDTH)]


def heads(length: int) -> list[Tensor]:
    return [torch.randn(1, HEADS, length, DIM) for _ in range(3)]


def gated(length: int) -> list[Tensor]:
    return [*heads(length), -torch.rand(1, HEADS, length, DIM)]


def delta(length: int) -> list[Tensor]:
    query, key, value = heads(length)
    return [query, nn.functional.normalize(key, dim=-1), value, torch.rand(1, HEADS, length)]


def gated_delta(length: int) -> list[Tensor]:
    return [*delta(length), -torch.rand(1, HEADS, length)]


def with_global_tokens(length: int) -> list[Tensor]:
    return [*tokens(length), torch.arange(length)[None] < 4]


def latents(length: int) -> list[Tensor]:
    return [torch.randn(1, 32, WIDTH), *tokens(length)]


def show_map(block: nn.Module, inputs: list[Tensor]) -> object:
    return block.attention(*inputs)


def cases(longest: int) -> Iterable[Case]:
    width, wide = {"embed_dim": WIDTH}, {"embed_dim": WIDTH, "num_heads": HEADS}
    latent = {"query_rank": 24, "kv_rank": 16, "head_dims": [12, 4, 16]}
    yield Case("multi-head-attention", wide, tokens, (2, 1))
    yield Case("multi-head-attention (its map)", wide, tokens, (2, 2), show_map)
    yield Case("sliding-window-attention", {**wide, "window_size": 128}, tokens, (1, 1))
    yield Case("multi-head-latent-attention", {**wide, **latent}, tokens, (2, 1))
    yield Case("multi-head-latent-attention (its map)", {**wide, **latent}, tokens, (2, 2), show_map)
    yield Case("differential-attention", {**wide, "depth": 0}, tokens, (2, 1))
    yield Case("sab", wide, tokens, (2, 1))
    yield Case("aft-full", {**width, "max_len": longest}, tokens, (2, 2))
    yield Case("linear-attention", {}, heads, (1, 1))
    yield Case("linear-attention (causal)", {"causal": True}, heads, (1, 1))
    yield Case("performer", {"head_dim": DIM}, heads, (1, 1))
    yield Case("linformer", {**wide, "max_len": longest, "compressed_len": 64}, tokens, (1, 1))
    yield Case("nystrom-attention", {**wide, "num_landmarks": 32}, tokens, (1, 1))
    yield Case("reformer-attention", {**wide, "num_buckets": 64}, tokens, (1, 1))
    yield Case("longformer-attention", {**wide, "window_size": 128}, with_global_tokens, (1, 1))
    yield Case("bigbird-attention", {**wide, "block_size": 32}, tokens, (1, 1))
    yield Case("aft-simple", width, tokens, (1, 1))
    yield Case("aft-local", {**width, "max_len": longest, "window_size": 16}, tokens, (1, 1))
    yield Case("aft-conv", {**wide, "kernel_size": 11}, tokens, (1, 1))
    yield Case("gated-linear-attention", {}, gated, (1, 1))
    yield Case("delta-rule", {}, delta, (1, 1))
    yield Case("gated-delta-rule", {}, gated_delta, (1, 1))
    yield Case("isab", {**wide, "num_points": 16}, tokens, (1, 1))
    yield Case("pma", wide, tokens, (1, 1))
    yield Case("perceiver-cross-attention", {**wide, "source_dim": WIDTH}, latents, (1, 1))
    yield Case("slot-attention", width, tokens, (1, 1))
    yield Case("han-attention", width, tokens, (1, 1))
    yield Case("gated-mil-attention", width, tokens, (1, 1))


def run(case: Case, block: nn.Module, inputs: list[Tensor], train: bool) -> None:
    if not train:
        with torch.no_grad():
            case.call(block, inputs)
        return
    output = case.call(block, [x.requires_grad_() if x.is_floating_point() else x for x in inputs])
    while not isinstance(output, Tensor):
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    output.sum().backward()


def seconds(step: Step) -> float:
    """Return the smallest CPU time of three rounds; of one if it takes long."""
    best = math.inf
    for _ in range(3):
        start = time.process_time()
        step()
        best = min(best, time.process_time() - start)
        if best > 0.5:
            break
    return best


def slope(lengths: list[int], values: list[float]) -> float:
    """Return the slope of log(value) over log(length) for the longer half of the lengths."""
    half = len(lengths) // 2
    x = [math.log(v) for v in lengths[half - 1 :]]
    y = [math.log(max(v, 1e-12)) for v in values[half - 1 :]]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def measure(case: Case, lengths: tuple[int, ...], train: bool) -> str:
    block = attnzoo.create(case.name.split(" ")[0], **case.arguments)
    used, times, sizes = [], [], []
    for length in lengths:
        inputs = case.inputs(length)
        step = lambda inputs=inputs: run(case, block, inputs, train)  # noqa: E731
        if length == lengths[0]:
            step()
        used.append(length)
        times.append(seconds(step))
        sizes.append(float(peak_bytes(step)))
        if case.promise[1] == 2 and length >= 4096:  # a map of all pairs: longer ones do not fit
            break
    growth, space = slope(used, times), slope(used, sizes)
    verdict = "" if space < case.promise[1] + 0.25 and growth < case.promise[0] + 0.35 else "  MORE THAN PROMISED"
    return (
        f"{case.name:42} {used[-1]:>6} {times[-1] * 1e3:>10.1f} {sizes[-1] / 1e6:>9.1f}"
        f" {growth:>6.2f} ({case.promise[0]}) {space:>6.2f} ({case.promise[1]}){verdict}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short lengths, a few seconds")
    parser.add_argument("--train", action="store_true", help="forward and backward instead of forward")
    parser.add_argument("--only", default="", help="blocks whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        attnzoo.keep_freed_memory()
    except AttnZooError as error:
        print(error)
    torch.manual_seed(0)
    lengths = QUICK_LENGTHS if options.quick else LENGTHS
    print(f"{'block':42} {'L':>6} {'ms':>10} {'MB':>9} {'time':>10} {'memory':>10}   exponents; promised in brackets")
    for case in cases(lengths[-1]):
        if options.only in case.name:
            print(measure(case, lengths, options.train), flush=True)


if __name__ == "__main__":
    main()
