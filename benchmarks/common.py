"""Measuring: interleaved timing, peak of new memory, the environment, and tables.

Every comparison is made inside one process, in the order A B C, C B A, ...; each round gives one ratio, and the median
with the 25-75 % range is reported. The default clock is the CPU time of one thread, which a busy neighbour cannot
stretch. ``--clock wall --threads N`` gives wall time. What is printed says whether the process kept freed memory
(``--mallopt``): without it, maps over 32 MB are faulted in page by page at every call, and that is what is measured.
"""

import argparse
import gc
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import attnzoo

CLOCKS = {"cpu": time.thread_time, "wall": time.perf_counter}
SIZES = ((8, 64, 56, 56), (8, 256, 56, 56), (8, 512, 28, 28), (8, 2048, 7, 7))
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}

Step = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """How many times faster ours is: the median of the rounds, its 25-75 % range, and both medians in ms."""

    median: float
    low: float
    high: float
    ours_ms: float
    peer_ms: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def parser(text: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share."""
    options = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clock", choices=CLOCKS, default="cpu", help="CPU time of one thread, or wall time")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--mallopt", action="store_true", help="keep freed memory (attnzoo.keep_freed_memory)")
    options.add_argument("--json", type=Path, help="append the figures to this file, a JSON object a line")
    options.add_argument("--markdown", type=Path, help="put the tables into this document, between their marks")
    return options


def set_up(options: argparse.Namespace) -> None:
    """Apply the shared options, seed, and print the environment."""
    if options.mallopt:
        attnzoo.keep_freed_memory()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(environment(options))


def environment(options: argparse.Namespace) -> str:
    """Return one line: processor, torch, threads, clock, allocator."""
    allocator = "freed memory kept (mallopt)" if options.mallopt else "allocator as it is (glibc)"
    threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
    clock = "CPU time" if options.clock == "cpu" else "wall time"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{processor()}; {versions}; {threads}, {clock}; {allocator}"


def processor() -> str:
    """Return the model of the processor, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models and models[0] != "unknown" else platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}), {os.cpu_count()} cores"


def interleave(steps: Mapping[str, Step], *, clock: str, rounds: int, sample_ms: float = 3.0) -> dict[str, list[float]]:
    """Time the steps in turns and return the seconds a call of each round."""
    now, names = CLOCKS[clock], list(steps)
    repeats = {name: _repeats(step, sample_ms) for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    enabled = gc.isenabled()
    gc.disable()
    try:
        for turn in range(rounds):
            for name in names if turn % 2 == 0 else reversed(names):
                start = now()
                for _ in range(repeats[name]):
                    steps[name]()
                seconds[name].append((now() - start) / repeats[name])
    finally:
        if enabled:
            gc.enable()
    return seconds


def _repeats(step: Step, sample_ms: float) -> int:
    step()
    start = time.thread_time()
    step()
    return max(1, int(sample_ms / 1e3 / max(time.thread_time() - start, 1e-7)))


def ratio(ours: Sequence[float], peer: Sequence[float]) -> Ratio:
    """Return peer / ours, round by round."""
    low, median, high = quartiles([theirs / mine for mine, theirs in zip(ours, peer, strict=True)])
    return Ratio(median, low, high, quartiles(ours)[1] * 1e3, quartiles(peer)[1] * 1e3)


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Return the 25 %, 50 % and 75 % values."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean; NaN of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def peak_bytes(step: Step) -> int:
    """Return the most that torch's CPU allocator held during ``step``, called before, beyond what it held at first."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    assert profile.profiler is not None
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for change in sorted(changes, key=lambda e: e.start_ns()):
        held += change.nbytes()
        peak = max(peak, held)
    return peak


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_section(document: Path | None, mark: str, text: str) -> None:
    """Print the text and, where a document is given, write it between its marks there."""
    print(text)
    if document is None:
        return
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, found, rest = document.read_text().partition(begin)
    if not found:
        message = f"{document}: no mark {begin!r}, expected one; add it and {end!r} where the text is to stand"
        raise SystemExit(message)
    after = rest.partition(end)[2]
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def append_record(path: Path | None, record: Mapping[str, Any]) -> None:
    """Append a record to a file of JSON lines, where one is given."""
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")


def plain_data(value: Ratio) -> dict[str, float]:
    """Return a ratio as data for JSON, rounded."""
    return {key: round(number, 4) for key, number in asdict(value).items()}
