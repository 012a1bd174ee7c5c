"""Verify every golden file and write docs/evidence.json: the largest error of each block and reference.

python docs/tools/evidence.py
"""

import json
from pathlib import Path

import attnzoo
from attnzoo.golden import Verdict, verify

ROOT = Path(__file__).parents[2]


def row(verdict: Verdict) -> dict[str, float | None]:
    """Return the largest errors of one file, rounded up to one digit."""
    kinds = ("output", "grad_input", "map")
    return {kind: None if (worst := verdict.worst(kind)) is None else float(f"{worst:.0e}") for kind in kinds}


def run() -> None:
    """Write the evidence."""
    registry = attnzoo.default_registry()
    evidence: dict[str, dict[str, dict[str, dict[str, float | None]]]] = {}
    for path in sorted((ROOT / "tests" / "golden").glob("*.safetensors")):
        verdict = verify(path, registry)
        if verdict.ok:
            evidence.setdefault(verdict.block, {}).setdefault(verdict.dialect, {})[path.stem] = row(verdict)
    (ROOT / "docs" / "evidence.json").write_text(json.dumps(evidence, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    run()
