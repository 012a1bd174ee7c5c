"""Every dialect, both ways: their tensors, imported and exported again, are the same bits."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch

import attnzoo
from attnzoo.golden import find_dialects, read_golden
from attnzoo.weights.binding import our_arguments
from attnzoo.weights.dialects import is_counter, translation
from attnzoo.weights.foreign import build_foreign, foreign_tensors

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.safetensors"))


def round_trip(path):
    golden = read_golden(path)
    theirs = golden.groups["state"]
    if not theirs:
        return
    entry, dialect, bound = find_dialects(golden, attnzoo.default_registry())[0]
    args = our_arguments(dialect, bound, golden.call, {k: list(v.shape) for k, v in theirs.items()})
    block = build_foreign(attnzoo.default_registry(), entry.id, dialect.name, args, theirs, path.name)
    back = foreign_tensors(block, dialect.name, attnzoo.default_registry())
    steps = translation(dialect, args, {k: v.shape for k, v in block.state_dict().items()})
    magnitudes = {name: step.magnitude for step in steps if step.magnitude is not None for name in step.theirs}
    for name, tensor in theirs.items():
        if name in back:
            given, applied = back[name], tensor
            if name in magnitudes:  # their layer applies the magnitude alone, so that its sign is lost
                given, applied = given.abs() + magnitudes[name], applied.abs() + magnitudes[name]
            assert torch.equal(given, applied), f"{entry.id} {dialect.name}: {name}"
        else:
            assert is_counter(name) or any(fnmatchcase(name, g) for g in dialect.ignore), (
                f"{dialect.name}: {name} is lost"
            )


@pytest.mark.parametrize(
    "path",
    [p for p in GOLDEN if re.match("(se|cbam|eca|swin_w|multi_head_attention)--.*--a", p.name)],
    ids=lambda p: p.stem,
)
def test_imported_and_exported_tensors_are_the_same_bits(path):
    round_trip(path)


@pytest.mark.slow
@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_every_golden_file_imports_and_exports_to_the_same_bits(path):
    round_trip(path)
