"""Loading a saved block: ``attnzoo.load`` against ``load_file`` with ``load_state_dict``, time and peak memory.

``python benchmarks/loading.py`` writes a chain of attention layers of 100 MB and of 1 GB (``--sizes``, in MB) into a
folder of its own and loads it, each time in a fresh process and in turns: by ``attnzoo.load`` (built without memory,
tensors assigned), and by reading the file and copying its tensors into a block that was built before the clock started.
On both sides every number is read before the clock stops, so that nothing is left out that was only mapped. Peak memory
is the growth of the process's resident set at its highest, pages of the mapped file and the built block included.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import append_record, parser, processor, table, write_section

WIDTH = 2048
LAYER_BYTES = 4 * WIDTH * (WIDTH + 1) * 4  # four square matrices with biases, float32
COPIED = "`load_file` and `load_state_dict` into a built block"

PROLOGUE = """
import json, sys, time
import torch, attnzoo
torch.set_num_threads(1)
path, layers, width, way = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
node = {"block": "sequence/multi-head-attention", "args": {"embed_dim": width, "num_heads": 16}}
spec = {"chain": [node] * layers}
"""

WRITE = "attnzoo.save(attnzoo.build(spec), path)"

LOAD = """
from safetensors.torch import load_file
small = path + f".{way}.small"  # imports are done before the clock starts
attnzoo.save(attnzoo.create("multi-head-attention", embed_dim=16, num_heads=2), small)
attnzoo.load(small), load_file(small)

def status(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))

try:
    open("/proc/self/clear_refs", "w").write("5")
except OSError:
    pass
before = status("VmRSS")
block = None if way == "attnzoo" else attnzoo.build(spec)
start, clock = time.perf_counter(), time.process_time()
if block is None:
    block = attnzoo.load(path)
else:
    block.load_state_dict(load_file(path))
for tensor in block.state_dict().values():
    tensor.sum()
seconds = time.perf_counter() - start, time.process_time() - clock
print(json.dumps([*seconds, status("VmHWM") - before]))
"""


def main() -> None:
    """Measure and print."""
    options = arguments()
    rows = []
    for megabytes in options.sizes:
        layers = max(1, round(megabytes * 1e6 / LAYER_BYTES))
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            rows += measure(Path(folder) / "block.safetensors", layers, options)
    import torch

    head = ["file", "way", "wall, s", "CPU, s", "peak of new memory, MB"]
    about = f"{processor()}; torch {torch.__version__}; 1 thread; medians of {options.rounds} fresh processes each."
    write_section(options.markdown, "loading", f"{about}\n\n{table(head, rows)}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    options = parser(__doc__)
    options.set_defaults(rounds=3)
    options.add_argument("--sizes", type=int, nargs="+", default=[100, 1000], help="sizes of the files in MB")
    options.add_argument("--folder", help="where to write the files")
    return options.parse_args()


def measure(path: Path, layers: int, options: argparse.Namespace) -> list[list[str]]:
    """Write one file, load it both ways in turns, and return the rows of the table."""
    child(WRITE, path, layers, "write")
    size = path.stat().st_size / 1e6
    results: dict[str, list[list[float]]] = {"attnzoo": [], "copied": []}
    for turn in range(options.rounds):
        for way in results if turn % 2 == 0 else reversed(results):
            results[way].append(json.loads(child(LOAD, path, layers, way)))
    rows = []
    for way, name in (
        ("attnzoo", "`attnzoo.load`"),
        ("copied", "`load_file` and `load_state_dict` into a built block"),
    ):
        wall, cpu, peak = (statistics.median(values) for values in zip(*results[way], strict=True))
        rows.append([f"{size:.0f} MB", name, f"{wall:.3f}", f"{cpu:.3f}", f"{peak / 1e6:.0f}"])
        append_record(options.json, {"mb": size, "way": way, "wall_s": wall, "cpu_s": cpu, "peak_mb": peak / 1e6})
    return rows


def child(program: str, path: Path, layers: int, way: str) -> str:
    """Run a program in a fresh process and return what it printed."""
    command = [sys.executable, "-c", PROLOGUE + program, str(path), str(layers), str(WIDTH), way]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
