"""Every problem that doctor knows, on fake distributions, and its exit codes."""

import json
import sys

import pytest
from click.testing import CliRunner

from attnzoo.cli import main
from attnzoo.doctor import examine
from attnzoo.plugins import discover, installed_entry_points
from attnzoo.project import Permission
from attnzoo.registry import Registry, set_default_registry

PLUGIN = """
from pathlib import Path
import attnzoo

@attnzoo.hookimpl
def attnzoo_cards():
    return attnzoo.read_cards("PACKAGE")

@attnzoo.hookimpl
def attnzoo_registry_files():
    return [Path(__file__).with_name("registry.yaml")]
"""
CARD = 'name: gate\nclass: Gate\nsummary: S.\ndomain: mixed\nshape: "n c h w -> n c h w"\nexample: {}\n'
BLOCK = "from torch import nn\n\nclass Gate(nn.Identity):\n    pass\n"
COUNTER = iter(range(1000))


@pytest.fixture
def examined(fake_distribution):
    """Return a function that installs plugins and returns the problems, as (subject, found, mend)."""

    def look(*plugins, permission=None):
        names = []
        for options in plugins:
            package = f"doc_{next(COUNTER)}"
            name = options.pop("name", package.replace("_", "-"))
            files = {"__init__.py": "", "plugin.py": PLUGIN, "gate.py": BLOCK, "gate.yaml": CARD, "registry.yaml": ""}
            files |= options.pop("files", {})
            files = {f"{package}/{k}": v.replace("PACKAGE", package) for k, v in files.items() if v is not None}
            distribution = f"attnzoo-{package.replace('_', '-')}"
            fake_distribution(distribution, {name: f"{package}.plugin"}, files, **options)
            names.append(distribution)
        points = [p for p in installed_entry_points() if p.dist.name in names]
        registry = Registry(tuple(discover(points, {})))
        only = [] if permission else [p.name for p in registry.plugins]
        return [(p.subject, p.found, p.mend) for p in examine(registry, permission, only)]

    return look


def one(problems):
    assert len(problems) == 1, problems
    return problems[0]


def test_a_healthy_plugin_has_no_problems(examined):
    assert examined({}) == []


def test_a_broken_import_is_named_with_the_command_that_removes_it(examined):
    subject, found, mend = one(examined({"files": {"plugin.py": "import nothing_of_that_name"}}))
    assert subject.startswith("plugin doc-")
    assert found == "ModuleNotFoundError: No module named 'nothing_of_that_name'"
    assert mend.startswith("upgrade it, or remove it: attnzoo uninstall attnzoo-doc-")


def test_torch_at_discovery_is_named(examined, monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    heavy = {"files": {"plugin.py": "import sys, types\nsys.modules['timm'] = types.ModuleType('timm')\n" + PLUGIN}}
    _, found, mend = one(examined(heavy))
    sys.modules.pop("timm")  # not by monkeypatch, which would bring the empty module back
    assert found == "imports timm when it is discovered, expected in the blocks only"
    assert mend.endswith("free of heavy imports; it need only find the cards")


def test_a_slow_plugin_is_named(examined):
    _, found, _ = one(examined({"files": {"plugin.py": "import time\ntime.sleep(0.6)\n" + PLUGIN}}))
    assert found.startswith("took 0.")
    assert found.endswith("s to load, expected under 0.5 s")


def test_two_plugins_of_one_name_are_both_named(examined):
    problems = examined({"name": "twin"}, {"name": "twin"})
    assert [p[0].partition(" (")[0] for p in problems] == ["plugin twin", "plugin twin"]
    assert all("expected one distribution" in found for _, found, _ in problems)


def test_one_block_name_in_two_plugins_is_named_with_both_ids(examined):
    subject, found, mend = one(examined({"name": "left"}, {"name": "right"}))
    assert (subject, found) == ("block gate", "offered as left/gate and right/gate")
    assert mend == "write the full id, such as left/gate"


def test_one_alias_in_two_plugins_is_named(examined):
    cards = [CARD.replace("gate", f"gate-{n}") + "aliases: [door]\n" for n in "ab"]
    problems = examined(
        *({"name": n, "files": {"gate.yaml": c}} for n, c in zip(("left", "right"), cards, strict=True))
    )
    assert one(problems)[:2] == ("alias door", "offered as left/gate-a and right/gate-b")


def test_a_card_without_its_class_is_named(examined):
    subject, found, _ = one(examined({"name": "bare", "files": {"gate.py": "class Gatter: pass\n"}}))
    assert subject == "block bare/gate"
    assert "has no class 'Gate'; did you mean 'Gatter'?" in found


def test_a_class_without_a_card_is_named(examined):
    more = {
        "door.py": BLOCK.replace("nn.Identity", "nn.Module").replace("Gate", "Door"),
        "helper.py": "def f(): pass\n",
    }
    subject, found, mend = one(examined({"files": more}))
    assert subject.endswith("door.py")
    assert (found, mend) == ("has the class Door and no card", "write door.yaml beside it, or call the module _door.py")


def test_a_bad_card_is_named(examined):
    subject, found, _ = one(examined({"files": {"other.yaml": "name: other\n"}}))
    assert subject.endswith("other.yaml")
    assert found.startswith("no 'class', 'summary'")


def test_two_cards_of_one_name_and_version_are_named(examined):
    _, found, _ = one(examined({"files": {"later.yaml": CARD, "later.py": BLOCK}}))
    assert found.startswith("name 'gate', version 1: also in ")


def test_weights_of_a_missing_block_are_named(examined):
    entry = (
        "weights:\n- {name: w/x, block: nowhere/none, url: x.safetensors, sha256: '" + "0" * 64 + "', licence: MIT}\n"
    )
    subject, found, _ = one(examined({"files": {"registry.yaml": entry}}))
    assert (subject, found) == ("weights w/x", "made for block 'nowhere/none', which is missing")


def test_a_weights_file_that_is_gone_or_damaged_is_named(examined):
    entry = (
        "weights:\n- {name: gate/x, block: own/gate, url: x.safetensors, sha256: '" + "0" * 64 + "', licence: MIT}\n"
    )
    _, found, _ = one(examined({"name": "own", "files": {"registry.yaml": entry}}))
    assert "does not exist" in found
    _, found, _ = one(examined({"name": "own", "files": {"registry.yaml": entry, "x.safetensors": "damaged"}}))
    assert "has sha256" in found


def test_a_bad_registry_file_is_named_and_so_is_a_missing_one(examined):
    _, found, _ = one(examined({"files": {"registry.yaml": "weight: []\n"}}))
    assert "unknown key 'weight'; did you mean 'weights'?" in found
    _, found, _ = one(examined({"files": {"registry.yaml": None}}))
    assert found.startswith("has no registry file ")


def test_unmet_requirements_are_named_with_both_versions(examined):
    needs = ["attnzoo>=99", "nothing-of-that-name>=1", "nothing-else; extra == 'test'", "click>=1"]
    problems = examined({"requires": needs})
    assert [found for _, found, _ in problems] == [
        "needs attnzoo>=99, found attnzoo 0.1.0",
        "needs nothing-of-that-name>=1, which is not installed",
    ]
    assert problems[0][2].startswith("pip install 'attnzoo>=99', or another release of attnzoo-doc-")


def test_a_hosts_hook_that_raises_is_named(examined):
    hook = PLUGIN + "\n@attnzoo.hookimpl\ndef attnzoo_hosts():\n    raise KeyError('resnet')\n"
    assert one(examined({"files": {"plugin.py": hook}}))[1] == "attnzoo_hosts raised KeyError: 'resnet'"


def test_a_wrong_name_in_the_allow_list_is_named(examined):
    permission = Permission(frozenset({"visoin", "vision"}), allowed_by="attnzoo.toml")
    problems = examined({"name": "vision"}, permission=permission)
    text = "names the plugin 'visoin', which is not installed; did you mean 'vision'?"
    assert ("attnzoo.toml", text, "correct the name, or take it out") in problems


def run(*arguments):
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def installed(fake_distribution):
    def make(module):
        package = f"doc_{next(COUNTER)}"
        fake_distribution(f"attnzoo-{package}", {package: package}, {f"{package}.py": module})
        points = [p for p in installed_entry_points() if p.dist.name == f"attnzoo-{package}"]
        set_default_registry(Registry(tuple(discover(points, {}))))
        return package.replace("_", "-")

    old = set_default_registry(None)
    yield make
    set_default_registry(old)


def test_the_exit_code_is_0_when_healthy(installed):
    result = run("doctor", "--plugin", installed(""))
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "no problems")


def test_the_exit_code_is_1_when_not_and_the_traceback_is_shown(installed):
    result = run("doctor", "--plugin", installed("1 / 0"))
    assert result.exit_code == 1
    assert "ZeroDivisionError: division by zero\n    Traceback (most recent call last):" in result.output
    assert result.output.splitlines()[-1] == "1 problem"


def test_json_has_plugins_and_problems(installed):
    name = installed("1 / 0")
    data = json.loads(run("doctor", "--json").output)
    assert [(p["name"], p["status"]) for p in data["plugins"]] == [(name, "broken")]
    assert data["problems"][0]["found"] == "ZeroDivisionError: division by zero"


def test_an_unknown_plugin_is_refused(installed):
    installed("")
    result = run("doctor", "--plugin", "nothing")
    assert (result.exit_code, result.output) == (2, "error: no plugin named 'nothing'; see: attnzoo plugins\n")


def test_a_damaged_file_in_the_cache_is_named_with_how_to_delete_it(tmp_path, monkeypatch, attnzoo_isolated):
    import hashlib

    monkeypatch.setenv("ATTNZOO_CACHE", str(tmp_path))
    good, bad = (hashlib.sha256(text).hexdigest()[:16] for text in (b"good", b"bad"))
    (tmp_path / f"{good}-w.safetensors").write_bytes(b"good")
    (tmp_path / f"{bad}-w.safetensors").write_bytes(b"changed")
    (tmp_path / f"{bad}-w.safetensors.lock").write_bytes(b"")
    (tmp_path / f"{bad}-x.safetensors.part").write_bytes(b"half")
    (problem,) = [p for p in examine(attnzoo_isolated, Permission()) if p.subject.startswith("cache")]
    assert problem.subject == f"cache {tmp_path / f'{bad}-w.safetensors'}"
    assert problem.found == f"has sha256 {hashlib.sha256(b'changed').hexdigest()[:16]}…, expected {bad}…"
    assert problem.mend.endswith("it is fetched again when it is needed")
