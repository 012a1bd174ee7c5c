"""Run every block through what it must survive and write docs/compatibility.md.

    python docs/tools/compatibility.py

Each column is a check of the conformance suite on the block's first example, and ONNX export where `onnx` is installed.
"""

import contextlib
import io
import json
import warnings
from pathlib import Path

import torch

import attnzoo
from attnzoo.testing import build_checks as b
from attnzoo.testing import forward_checks as f
from attnzoo.testing import run_suite, subjects_of
from attnzoo.testing.subject import Subject

DOCS = Path(__file__).parents[1]
COLUMNS = {
    "export": b.exports,
    "compile": b.compiles,
    "types": f.dtypes,
    "channels_last": f.channels_last,
    "batch 1": f.batch_of_one,
    "odd sizes": f.shapes,
    "deterministic": f.deterministic,
}
MARKS = {"passed": "yes", "failed": "no", "exempt": "n/a"}


def onnx(subject: Subject) -> str:
    """Say whether the ONNX exporter takes the block."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        return "not run"
    block, inputs = subject.build(), subject.inputs(subject.sizes())
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(block, (), kwargs=dict(inputs), dynamo=True, verbose=False)
    except Exception:
        return "no"
    return "yes"


def table(rows: dict[str, dict[str, str]]) -> str:
    """Return the page."""
    columns = [*COLUMNS, "ONNX"]
    lines = [
        "<!-- Written by docs/tools/compatibility.py from real runs. -->",
        "# Compatibility",
        "",
        f"torch {torch.__version__.partition('+')[0]}, CPU. `types`: float64, bfloat16, float16 autocast; `compile`: "
        "`fullgraph=True`, forward and backward; `n/a`: the card says why it does not apply.",
        "",
        "Gradients of gradients and the transforms of `torch.func` (grad, vmap) work for the first example of every "
        "card in evaluation, under `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`: the fused attention of torch has "
        "no second derivative. Nor has its hard sigmoid; its batch norm in training, and its group norm on "
        "channels-last maps, take no vmap.",
        "",
        "Layers of a block may be replaced (adapters such as LoRA, pruning, parametrisations) or have hooks: where a "
        "block joins a layer's weight with another instead of calling it, the replacement is asked for its weight. So "
        "are batch norms: those in training by their own mode, hooked or replaced are called.",
        "",
        f"| block | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    lines += [f"| {block} | {' | '.join(row[c] for c in columns)} |" for block, row in rows.items()]
    return "\n".join(lines) + "\n"


def run() -> None:
    """Run the blocks; what is done is kept in a file beside the page, so that a stopped run goes on."""
    cache = DOCS / "compatibility.json"
    rows: dict[str, dict[str, str]] = json.loads(cache.read_text()) if cache.exists() else {}
    for subject in subjects_of(attnzoo.default_registry()):
        if "#" in subject.id or subject.id in rows:
            continue
        outcomes = {o.check: MARKS[o.status] for o in run_suite([subject], COLUMNS.values())}
        rows[subject.id] = {c: outcomes[check.__name__] for c, check in COLUMNS.items()} | {"ONNX": onnx(subject)}
        cache.write_text(json.dumps(rows, indent=1) + "\n")
    (DOCS / "compatibility.md").write_text(table(dict(sorted(rows.items()))))


if __name__ == "__main__":
    run()
