"""Reading cards, specs and weights runs no code of a plugin; a saved block keeps its contract version."""

import subprocess
import sys

import pytest

import attnzoo
from attnzoo.errors import AttnZooError
from attnzoo.registry import Registry, set_default_registry

PLUGIN = "import attnzoo\n\n@attnzoo.hookimpl\ndef attnzoo_cards():\n    return attnzoo.read_cards('trusty')\n"
CARD = 'name: gate\nclass: Gate\nsummary: S.\ndomain: mixed\nshape: "n c h w -> n c h w"\nexample: {}\n'
READ = """
import sys
from attnzoo.spec_reader import read_spec_text
from attnzoo.weights.store import read_description
import attnzoo

cards = attnzoo.read_cards("trusty")
assert cards[0].name == "gate" and cards[0].dialects == {}
assert read_spec_text("{block: trusty/gate, weights: w.safetensors}").block == "trusty/gate"
assert read_description(sys.argv[1]) is not None
assert "trusty.gate" not in sys.modules and "trusty.plugin" not in sys.modules
assert "trusty/gate" in [f"trusty/{c.name}" for c in attnzoo.list_blocks()]
assert "trusty.gate" not in sys.modules
"""


def test_reading_a_card_a_spec_and_a_weights_file_runs_no_code_of_a_plugin(fake_distribution, tmp_path):
    files = {"__init__.py": "", "plugin.py": PLUGIN, "gate.yaml": CARD, "gate.py": "raise SystemExit('ran')\n"}
    site = fake_distribution(
        "attnzoo-trusty", {"trusty": "trusty.plugin"}, {f"trusty/{k}": v for k, v in files.items()}
    )
    saved = tmp_path / "se.safetensors"
    attnzoo.save(attnzoo.create("se", channels=16), saved)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(saved)], env={"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def formula(monkeypatch):
    """Return a function that makes the registry offer block ``gate`` in some contract versions."""
    from torch import nn

    from attnzoo.card import Card
    from attnzoo.plugins import Plugin

    def offer(*versions):
        classes = {v: type(f"GateV{v}", (nn.Identity,), {}) for v in versions}
        cards = [
            Card("gate", c.__name__, "m", "s", "mixed", "n c -> n c", {}, version=v, cls=c) for v, c in classes.items()
        ]
        set_default_registry(Registry((Plugin("acme", "attnzoo-acme", f"{max(versions)}.0", "m", cards=tuple(cards)),)))

    old = set_default_registry(Registry())
    yield offer
    set_default_registry(old)


def test_a_saved_block_is_rebuilt_with_its_old_formula_or_refused(formula, tmp_path):
    path = tmp_path / "gate.safetensors"
    formula(1)
    attnzoo.save(attnzoo.create("gate"), path)
    formula(1, 2)
    assert type(attnzoo.create("gate")).__name__ == "GateV2"
    assert type(attnzoo.load(path)).__name__ == "GateV1"
    assert type(attnzoo.build({"block": "gate", "version": 1})).__name__ == "GateV1"
    formula(2)
    with pytest.raises(AttnZooError, match=r"contract version 1 was asked for, attnzoo-acme 2\.0 has 2"):
        attnzoo.load(path)
