"""Every golden file against the installed blocks: output, gradients and maps of the authors' code."""

from pathlib import Path

import pytest
import yaml

import attnzoo
from attnzoo.golden import find_dialects, read_golden, verify

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.safetensors"))

# Golden files that no dialect matches, each with its reason: only references whose code is itself wrong.
WITHOUT_DIALECT: dict[str, str] = {}

# Blocks without a golden file of their own, each with its reason.
WITHOUT_GOLDEN: dict[str, str] = yaml.safe_load((GOLDEN / "without-golden.yaml").read_text())

# Visual dialects without a golden file, each with its reason.
DIALECTS_WITHOUT_GOLDEN = {
    "vision/bisenet-context-path michaelfan01": "its widths are fixed and make a file of 10 MB; its parts have files"
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_block_equals_its_reference(path):
    if path.stem in WITHOUT_DIALECT:
        pytest.skip(WITHOUT_DIALECT[path.stem])
    verdict = verify(path, attnzoo.default_registry())
    assert not verdict.problem, verdict.problem
    over = [c for c in verdict.comparisons if not c.ok]
    assert not over, over
    assert {c.name.partition(".")[0] for c in verdict.comparisons} >= {"output"}


def test_every_block_has_a_golden_file_or_a_reason():
    registry = attnzoo.default_registry()
    used = set()
    for path in FILES:
        if path.stem not in WITHOUT_DIALECT:
            used.add(find_dialects(read_golden(path), registry)[0][0].id)
    first_party = {e.id for e in registry if e.plugin.distribution in ("attnzoo-vision", "attnzoo-sequence")}
    missing = first_party - used
    assert missing == set(WITHOUT_GOLDEN), {
        "give a reason in without-golden.yaml for": sorted(missing - set(WITHOUT_GOLDEN)),
        "not needed in without-golden.yaml any more": sorted(set(WITHOUT_GOLDEN) - missing),
    }
    assert all(WITHOUT_GOLDEN.values())


def test_every_visual_dialect_has_a_golden_file_or_a_reason():
    registry = attnzoo.default_registry()
    found = [find_dialects(read_golden(path), registry) for path in FILES if path.stem not in WITHOUT_DIALECT]
    used = {f"{entry.id} {dialect.name}" for candidates in found for entry, dialect, _ in candidates}
    every = {f"{e.id} {name}" for e in registry for name in e.card.dialects if e.id.startswith("vision/")}
    assert every - used == set(DIALECTS_WITHOUT_GOLDEN)
