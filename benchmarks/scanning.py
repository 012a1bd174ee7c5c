"""Scanning a large checkpoint from its header: the time beyond the imports.

``python benchmarks/scanning.py`` writes a safetensors file of over 1 GB, a header and a hole for the numbers, with 36
attention layers of a BERT and 264 squeeze-and-excitation blocks between convolutions, and one with the attention layers
alone. Each is scanned in fresh processes; the clock starts when everything is imported.
"""

import argparse
import json
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import append_record, parser, processor, table, write_section

SCAN = """
import json, sys, time
import attnzoo, attnzoo.weights.scan, attnzoo.weights.solve, safetensors.torch
from attnzoo.weights.checkpoint import open_checkpoint
start, clock = time.perf_counter(), time.process_time()
checkpoint = open_checkpoint(sys.argv[1])
found, _ = attnzoo.weights.scan.scan_fully(checkpoint, attnzoo.default_registry())
print(json.dumps([time.perf_counter() - start, time.process_time() - clock, len(found)]))
"""


def main() -> None:
    """Measure and print."""
    options = arguments()
    rows = []
    for attention, gates in ((36, 0), (36, 264)):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder) / "model.safetensors"
            tensors = write(path, attention, gates)
            runs = [scan(path) for _ in range(options.rounds)]
            wall, cpu, found = (statistics.median(values) for values in zip(*runs, strict=True))
            size = path.stat().st_size / 1e9
        if found != attention + gates:
            raise SystemExit(f"{found:.0f} sites were found, expected {attention + gates}")
        rows.append([f"{size:.1f} GB", str(tensors), f"{found:.0f}", f"{wall:.2f}", f"{cpu:.2f}"])
        append_record(options.json, {"gb": size, "tensors": tensors, "sites": found, "wall_s": wall, "cpu_s": cpu})
    head = ["file", "tensors", "sites found", "wall, s", "CPU, s"]
    about = f"{processor()}; Python {sys.version.split()[0]}; medians of {options.rounds} fresh processes each."
    write_section(options.markdown, "scanning", f"{about}\n\n{table(head, rows)}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    options = parser(__doc__)
    options.set_defaults(rounds=5)
    options.add_argument("--folder", help="where to write the files")
    return options.parse_args()


def scan(path: Path) -> list[float]:
    """Return wall seconds, CPU seconds and the number of sites of a scan in a fresh process."""
    done = subprocess.run([sys.executable, "-c", SCAN, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds: list[float] = json.loads(done.stdout)
    return seconds


def write(path: Path, attention: int, gates: int) -> int:
    """Write a header and a hole of the size that it tells; return the number of tensors."""
    header: dict[str, dict[str, object]] = {}
    end = 0
    for name, shape in shapes(attention, gates):
        start, count = end, 4
        for length in shape:
            count *= length
        end = start + count
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return len(header)


def shapes(attention: int, gates: int) -> Iterator[tuple[str, list[int]]]:
    """Yield names and shapes of the tensors of both models."""
    width = 768
    for index in range(attention):
        layer = f"encoder.layer.{index}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            yield f"{layer}.attention.{name}.weight", [width, width]
            yield f"{layer}.attention.{name}.bias", [width]
        for name, shape in (("intermediate.dense", [4 * width, width]), ("output.dense", [width, 4 * width])):
            yield f"{layer}.{name}.weight", shape
            yield f"{layer}.{name}.bias", shape[:1]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            yield f"{layer}.{name}.weight", [width]
            yield f"{layer}.{name}.bias", [width]
    for index in range(gates):
        channels = 64 << index % 4
        yield f"layers.{index}.conv1.weight", [channels, channels, 3, 3]
        for name in ("weight", "bias", "running_mean", "running_var"):
            yield f"layers.{index}.bn1.{name}", [channels]
        for name, shape in (("fc1", [channels // 16, channels, 1, 1]), ("fc2", [channels, channels // 16, 1, 1])):
            yield f"layers.{index}.se.{name}.weight", shape
            yield f"layers.{index}.se.{name}.bias", shape[:1]


if __name__ == "__main__":
    main()
