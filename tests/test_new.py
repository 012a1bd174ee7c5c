"""``attnzoo new``: what it writes works as it is."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from attnzoo.card import read_card
from attnzoo.cli import main
from attnzoo.scaffold import LICENCES, names_of, template_card
from attnzoo.scaffold.package import card_text

GATE = '''
import torch
from torch import nn


class PixelGate(nn.Module):
    """Scale every pixel by a weight: the "mean" of its channels."""

    def __init__(self, channels: int, bias: bool = True):
        super().__init__()
        self.score = nn.Conv2d(channels, 1, 1, bias=bias)

    def forward(self, x):
        return x * torch.sigmoid(self.score(x))
'''


def new(folder, *arguments):
    return CliRunner().invoke(main, ["new", *map(str, arguments), "--folder", str(folder)])


@pytest.fixture
def plugin(tmp_path):
    result = new(tmp_path / "p", "My_Attention", "--licence", "MIT", "--author", "A. Nobody")
    assert result.exit_code == 0, result.output
    return tmp_path / "p"


def test_the_package_is_complete(plugin):
    files = {str(p.relative_to(plugin)) for p in plugin.rglob("*") if p.is_file()}
    package = {"__init__.py", "plugin.py", "my_attention.py", "my_attention.yaml", "registry.yaml"}
    assert files == {f"attnzoo_my_attention/{f}" for f in package} | {
        *("pyproject.toml", "README.md", "LICENSE", ".gitignore", "tests/test_blocks.py", ".github/workflows/test.yml")
    }
    assert "A. Nobody" in (plugin / "LICENSE").read_text()


def test_the_metadata_is_valid(plugin):
    import tomllib

    data = tomllib.loads((plugin / "pyproject.toml").read_text())
    assert data["project"]["name"] == "attnzoo-my-attention"
    assert data["project"]["license"] == "MIT"
    assert data["project"]["entry-points"] == {"attnzoo": {"my-attention": "attnzoo_my_attention.plugin"}}


def test_the_block_passes_the_conformance_suite(plugin):
    result = CliRunner().invoke(main, ["check", str(plugin), "--fast"])
    assert result.output == "16 passed, 0 failed, 0 exempt\n"


def test_it_shows_up_in_the_registry_with_its_files(plugin, fake_distribution):
    from attnzoo.plugins import discover, installed_entry_points
    from attnzoo.weights.catalogue import read_registry_file

    files = {str(p.relative_to(plugin)): p.read_text() for p in (plugin / "attnzoo_my_attention").iterdir()}
    fake_distribution("attnzoo-my-attention", {"my-attention": "attnzoo_my_attention.plugin"}, files)
    points = [p for p in installed_entry_points() if p.name == "my-attention"]
    (found,) = discover(points, {})
    assert (found.status, [c.name for c in found.cards], found.faults) == ("ok", ["my-attention"], ())
    assert read_registry_file(found.registry_files[0]).weights == ()


def test_a_block_costs_at_most_eight_lines_beyond_its_module():
    assert len(card_text(template_card(names_of("my-attention"))).splitlines()) == 8


def test_a_second_block_edits_no_file(tmp_path):
    plugin = tmp_path / "p"
    new(plugin, "with-second", "--licence", "MIT")
    package = plugin / "attnzoo_with_second"
    before = {p: p.read_text() for p in package.iterdir() if p.is_file()}
    (package / "other.py").write_text("from torch import nn\n\nclass Other(nn.Identity):\n    pass\n")
    (package / "other.yaml").write_text(
        "name: other\nclass: Other\nsummary: S.\ndomain: mixed\nshape: 'n c h w -> n c h w'\nexample: {}\n"
    )
    result = CliRunner().invoke(main, ["check", str(plugin), "--fast"])
    assert result.output == "32 passed, 0 failed, 0 exempt\n"
    assert {p: p.read_text() for p in before} == before


def test_the_licence_is_asked_for(tmp_path):
    result = CliRunner().invoke(main, ["new", "x", "--folder", str(tmp_path / "x")], input="MIT\n")
    assert "Licence of your code (Apache-2.0, MIT, BSD-3-Clause, Proprietary) [Apache-2.0]: MIT" in result.output
    assert 'license = "MIT"' in (tmp_path / "x" / "pyproject.toml").read_text()


@pytest.mark.parametrize("licence", LICENCES)
def test_every_licence_has_its_text(tmp_path, licence):
    assert new(tmp_path / "x", "x", "--licence", licence).exit_code == 0
    assert len((tmp_path / "x" / "LICENSE").read_text()) > 100
    assert f'license = "{LICENCES[licence]}"' in (tmp_path / "x" / "pyproject.toml").read_text()


def test_a_module_of_ones_own_is_packaged_with_a_card(tmp_path):
    source = tmp_path / "gates_of_mine.py"
    source.write_text(GATE)
    result = new(tmp_path / "p", "pixel", "--from", source, "--licence", "MIT")
    assert result.exit_code == 0, result.output
    package = tmp_path / "p" / "attnzoo_pixel"
    assert (package / "pixel_gate.py").read_text() == GATE
    card = read_card(package / "pixel_gate.yaml", "m")
    assert (card.name, card.class_name, card.shape) == ("pixel-gate", "PixelGate", "n c h w -> n c h w")
    assert (card.axes, card.example) == ({"c": "channels"}, {"channels": 32})
    assert card.summary == 'Scale every pixel by a weight: the "mean" of its channels.'


def test_a_file_with_several_classes_asks_for_one(tmp_path):
    source = tmp_path / "two_gates.py"
    source.write_text(GATE + GATE.replace("PixelGate", "OtherGate"))
    result = new(tmp_path / "p", "pixel", "--from", source, "--licence", "MIT")
    assert result.output == (
        f"error: {source}: its nn.Module classes are PixelGate, OtherGate, expected one to be named; "
        f"write {source}:ClassName\n"
    )
    assert new(tmp_path / "p", "pixel", "--from", f"{source}:OtherGate", "--licence", "MIT").exit_code == 0
    assert (tmp_path / "p" / "attnzoo_pixel" / "other_gate.yaml").exists()


def test_a_file_that_needs_its_neighbours_is_refused(tmp_path):
    (tmp_path / "neighbour_x.py").write_text("")
    source = tmp_path / "needy.py"
    source.write_text("import neighbour_x\n" + GATE)
    result = new(tmp_path / "p", "pixel", "--from", source, "--licence", "MIT")
    assert result.exit_code == 2
    assert (
        f"error: {source}: imports neighbour_x from its own folder, expected a file that stands alone" in result.output
    )
    assert not (tmp_path / "p").exists()


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "kept").write_text("mine")
    result = new(tmp_path, "x", "--licence", "MIT")
    assert result.output == (
        f"error: {tmp_path}: exists already, expected a new or empty folder; choose another with --folder\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("name", ["3d", "a b c!", "", "attnzoo-", "local", "a/b", "-x"])
def test_a_name_that_cannot_be_one_is_refused(tmp_path, name):
    result = CliRunner().invoke(main, ["new", "--licence", "MIT", "--folder", str(tmp_path / "p"), "--", name])
    assert result.exit_code == 2
    assert f"plugin name {name!r}: expected letters, digits and dashes, a letter first" in result.output


@pytest.mark.slow
def test_its_own_tests_pass(plugin):
    code = "import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-m', 'not slow', 'tests']))"
    info = plugin / "attnzoo_my_attention-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: attnzoo-my-attention\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[attnzoo]\nmy-attention = attnzoo_my_attention.plugin\n")
    environment = {"PYTHONPATH": f"{plugin}:{Path(__file__).parents[1]}", "PATH": "", "ATTNZOO_PLUGINS": "my-attention"}
    done = subprocess.run([sys.executable, "-c", code], cwd=plugin, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "16 passed" in done.stdout
