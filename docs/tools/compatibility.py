"""Run every block through what it must survive and write docs/compatibility.md.

    python docs/tools/compatibility.py

Each column is a check of the conformance suite on the block's first example. The last runs the block in onnxruntime and
needs `pip install onnx onnxscript onnxruntime`. Only blocks whose files or checks have changed are run again.
"""

import ast
import contextlib
import hashlib
import importlib.util
import inspect
import io
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import attnzoo
from attnzoo.testing import CheckFailure, run_suite, subjects_of
from attnzoo.testing import build_checks as b
from attnzoo.testing import forward_checks as f
from attnzoo.testing.outputs import call_block, close, difference, first_line
from attnzoo.testing.subject import Subject

DOCS = Path(__file__).parents[1]
ONNX_NEEDS = ("onnx", "onnxscript", "onnxruntime")
MARKS = {"passed": "yes", "failed": "no", "exempt": "n/a"}
Row = dict[str, Any]  # "cells" by column, "reasons" of those that are not "yes", and the hash of what it is "made_of"


def onnx(subject: Subject) -> None:
    """Exported to ONNX and run by onnxruntime, the block gives the same numbers."""
    block, inputs = subject.build(), subject.inputs(subject.sizes())
    quiet = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        try:
            outputs = torch.onnx.export(block, (), kwargs=dict(inputs), dynamo=True, verbose=False)(**inputs)
        except Exception as error:
            raise CheckFailure(first_line(_root(error)), mend="") from error
    for ours, theirs in zip(call_block(subject, block, inputs), outputs, strict=True):
        if not close(theirs, ours, 1e-4):
            raise CheckFailure(f"onnxruntime gives other numbers ({difference(theirs, ours):.2g} apart)", mend="")


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


COLUMNS = {
    "export": b.exports,
    "compile": b.compiles,
    "float64": f.float64,
    "bf16": f.bfloat16,
    "fp16 autocast": f.float16_autocast,
    "channels_last": f.channels_last,
    "batch 1": f.batch_of_one,
    "odd sizes": f.shapes,
    "deterministic": f.deterministic,
    "ONNX": onnx,
}


def made_of(subject: Subject) -> str:
    """Return a hash of what a row depends on: card, block, what it imports from its plugin, checks, libraries."""
    files = _sources(inspect.getmodule(subject.cls).__name__, {})
    checks = [inspect.getsource(check) for check in COLUMNS.values()]
    libraries = [torch.__version__, *(name for name in ONNX_NEEDS if importlib.util.find_spec(name))]
    text = [subject.card.path.read_text() if subject.card.path else "", *files.values(), *COLUMNS, *checks, *libraries]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


def _sources(module: str, found: dict[str, str]) -> dict[str, str]:
    """Add to ``found`` the text of a module and of all that it imports from its own package."""
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.origin is not None and module not in found:
        found[module] = Path(spec.origin).read_text()
        for node in ast.walk(ast.parse(found[module])):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(module.partition(".")[0] + "."):
                _sources(node.module, found)
    return found


def row_of(subject: Subject) -> Row:
    """Run the checks of all columns on a block."""
    missing = [name for name in ONNX_NEEDS if not importlib.util.find_spec(name)]
    cells, reasons = {}, {}
    for column, check in COLUMNS.items():
        if check is onnx and missing:
            cells[column], reasons[column] = "not run", f"needs {' and '.join(missing)}"
            continue
        (outcome,) = run_suite([subject], [check])
        cells[column] = MARKS[outcome.status]
        if outcome.status != "passed":
            reasons[column] = outcome.found if len(outcome.found) < 160 else outcome.found[:157] + "…"
    return {"cells": cells, "reasons": reasons, "made_of": made_of(subject)}


HEAD = """\
<!-- Written by docs/tools/compatibility.py from real runs. -->
# Compatibility

torch {torch}, CPU, the first example of every card.

- `export`: `torch.export`; `compile`: `torch.compile(fullgraph=True)`, forward and backward, with the backend
  `aot_eager`, which traces both and generates no code. The numbers are those of the plain block within 1e-4.
- `float64`, `bf16`: block and inputs of that type give that type; `fp16 autocast`: the numbers are finite.
- `channels_last`: the same numbers within 1e-4, and a map of the same shape keeps the layout.
- `batch 1`: finite numbers in training and evaluation; `odd sizes`: the declared shapes, down to the smallest map;
  `deterministic`: the same bits twice.
- `ONNX`: `torch.onnx.export(dynamo=True)`, run by onnxruntime; the numbers are those of the plain block within 1e-4 of
  the largest. For a query whose keys are all masked, torch's exporter gives the mean of the values where
  `scaled_dot_product_attention` gives zeros.
- The number beside a mark is that of the reason below the table.

Gradients of gradients and the transforms of `torch.func` (grad, vmap) work for the first example of every card in
evaluation, under `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`: the fused attention of torch has no second
derivative. Nor has its hard sigmoid; its batch norm in training, and its group norm on channels-last maps, take no
vmap.

Layers of a block may be replaced (adapters such as LoRA, pruning, parametrisations) or have hooks: where a block joins
a layer's weight with another instead of calling it, the replacement is asked for its weight. So are batch norms: those
in training by their own mode, hooked or replaced are called.
"""


def page(rows: dict[str, Row]) -> str:
    """Return the page: the head, the table, and the reasons, each once."""
    reasons = list(dict.fromkeys(reason for row in rows.values() for reason in row["reasons"].values()))
    lines = [HEAD.format(torch=torch.__version__.partition("+")[0])]
    lines += [f"| block | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    lines += [f"| {block} | {' | '.join(_cells(row, reasons))} |" for block, row in rows.items()]
    numbered = [f"{number}. {reason.replace('<', '&lt;')}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *numbered]).rstrip("\n") + "\n"


def _cells(row: Row, reasons: list[str]) -> Iterable[str]:
    for column, mark in row["cells"].items():
        why = row["reasons"].get(column)
        yield f"{mark} ({reasons.index(why) + 1})" if why else mark


def run() -> None:
    """Run the blocks; what is done is kept in a file beside the page, so that a stopped run goes on."""
    cache = DOCS / "compatibility.json"
    old: dict[str, Row] = json.loads(cache.read_text()) if cache.exists() else {}
    subjects = {s.id: s for s in subjects_of(attnzoo.default_registry()) if "#" not in s.id}
    rows = {i: old[i] for i, s in subjects.items() if i in old and old[i].get("made_of") == made_of(s)}
    for name in sorted(subjects.keys() - rows.keys()):
        rows[name] = row_of(subjects[name])
        cache.write_text(json.dumps(dict(sorted(rows.items())), indent=1) + "\n")
    (DOCS / "compatibility.md").write_text(page(dict(sorted(rows.items()))))


if __name__ == "__main__":
    run()
