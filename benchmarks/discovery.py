"""How long discovery takes: fake plugins on the path, each run in a new Python, its start not counted.

python benchmarks/discovery.py

Prints seconds of wall-clock and processor time from `import attnzoo` to the list of blocks, the best of five runs.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PLUGIN = """
import attnzoo


@attnzoo.hookimpl
def attnzoo_cards():
    return attnzoo.read_cards(__package__)
"""
CARD = """\
name: NAME
class: Block
aliases: [NAME-alias]
summary: Scales each channel by a weight computed from the means of all channels.
domain: channel
shape: "n c h w -> n c h w"
axes: {c: channels}
maps: {channel: "n c 1 1"}
example: {channels: 16, reduction: 4}
paper: {title: A Title of Usual Length, authors: Somebody et al., venue: CVPR, year: 2020, arxiv: "2001.00001"}
origin: {code: github.com/somebody/something, commit: "0262d43", file: models/block.py, licence: MIT}
"""
CODE = """
import json, sys, time
wall, processor = time.perf_counter(), time.process_time()
import attnzoo
blocks = attnzoo.list_blocks()
spent = time.perf_counter() - wall, time.process_time() - processor
plugins = attnzoo.default_registry().plugins
assert "torch" not in sys.modules
print(json.dumps({
    "wall": spent[0], "processor": spent[1], "blocks": len(blocks),
    "statuses": {f"{p.name} {p.distribution}": p.status for p in plugins},
    "errors": {p.distribution: p.error for p in plugins if p.status != "ok"},
}))
"""
FAULTS = ("1 / 0", "import nothing_of_that_name", "raise SystemExit(3)", "def f(:", "import attnzoo\nattnzoo.nothing")


def make_site(site: Path, *, good: int, cards: int, broken: int = 0, clashing: int = 0) -> None:
    """Write fake installed plugins below ``site``."""
    for number in range(good):
        package = f"good_{number}"
        files = {"__init__.py": "", "plugin.py": PLUGIN}
        for card in range(cards):
            files[f"block_{card}.yaml"] = CARD.replace("NAME", f"block-{number}-{card}")
            files[f"block_{card}.py"] = "from torch import nn\n\n\nclass Block(nn.Identity):\n    pass\n"
        _write(site, f"good-{number}", f"good-{number}", package, files)
    for number in range(broken):
        _write(site, f"broken-{number}", f"broken-{number}", f"broken_{number}", {"plugin.py": FAULTS[number % 5]})
    for number in range(clashing):
        _write(site, f"clash-{number}", "clash", f"clash_{number}", {"plugin.py": PLUGIN, "__init__.py": ""})


def _write(site: Path, distribution: str, name: str, package: str, files: dict[str, str]) -> None:
    info = site / f"attnzoo_{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: attnzoo-{distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[attnzoo]\n{name} = {package}.plugin\n")
    (site / package).mkdir()
    for path, text in files.items():
        (site / package / path).write_text(text)


def measure(site: Path) -> dict:
    """Discover in a new Python and return what it says."""
    environment = {**os.environ, "PYTHONPATH": str(site), "ATTNZOO_BLOCK_PLUGINS": "vision,sequence,hosts"}
    environment.pop("ATTNZOO_PLUGINS", None)
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, cwd=site, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    """Measure the two cases and print them."""
    for case in ({"good": 50, "cards": 1, "broken": 5, "clashing": 2}, {"good": 200, "cards": 5}):
        with tempfile.TemporaryDirectory() as folder:
            make_site(Path(folder), **case)
            runs = [measure(Path(folder)) for _ in range(6)][1:]
        wall, processor = (min(r[k] for r in runs) for k in ("wall", "processor"))
        words = ", ".join(f"{v} {k}" for k, v in case.items())
        print(f"{words}: {wall:.2f} s wall-clock, {processor:.2f} s processor")


if __name__ == "__main__":
    main()
