"""Discovery: pluggy's three holes, the allow-list, and what is kept of broken plugins."""

import pytest

from attnzoo.errors import NameNotFound
from attnzoo.plugins import discover, installed_entry_points
from attnzoo.registry import Registry

GOOD = """
    import attnzoo

    @attnzoo.hookimpl
    def attnzoo_cards():
        return attnzoo.read_cards("PACKAGE")
"""
CARD = """
    name: NAME
    class: Block
    summary: Does nothing.
    domain: mixed
    shape: "n c h w -> n c h w"
    example: {}
"""
BLOCK = """
    from torch import nn

    class Block(nn.Identity):
        pass
"""


def install_good(fake_distribution, name, block):
    package = name.replace("-", "_")
    return fake_distribution(
        f"attnzoo-{name}",
        {name: f"{package}.plugin"},
        {
            f"{package}/__init__.py": "",
            f"{package}/plugin.py": GOOD.replace("PACKAGE", package),
            f"{package}/{block}.yaml": CARD.replace("NAME", block),
            f"{package}/{block}.py": BLOCK,
        },
    )


def fake_plugins(*names):
    points = [p for p in installed_entry_points() if p.dist.name.removeprefix("attnzoo-") in names or p.name in names]
    return {(p.name, p.distribution): p for p in discover(points, {})}


def test_an_installed_plugin_is_found_with_its_blocks(fake_distribution):
    install_good(fake_distribution, "good-one", "gate")
    plugin = fake_plugins("good-one")["good-one", "attnzoo-good-one"]
    assert (plugin.status, [c.name for c in plugin.cards], plugin.version) == ("ok", ["gate"], "1.0")


def test_two_distributions_with_one_entry_point_name_are_both_named(fake_distribution):
    install_good(fake_distribution, "good-one", "gate")
    fake_distribution("attnzoo-first", {"twin": "first_plugin"}, {"first_plugin.py": ""})
    fake_distribution("attnzoo-second", {"twin": "second_plugin"}, {"second_plugin.py": ""})
    plugins = fake_plugins("good-one", "twin")
    assert plugins["good-one", "attnzoo-good-one"].status == "ok"
    text = (
        "plugin name 'twin' is used by attnzoo-first and attnzoo-second, expected one distribution; "
        "uninstall one, or set ATTNZOO_BLOCK_PLUGINS=attnzoo-second"
    )
    assert [plugins["twin", f"attnzoo-{w}"].error for w in ("first", "second")] == [text, text]


def test_blocking_one_of_two_twins_lets_the_other_work(fake_distribution):
    fake_distribution("attnzoo-first", {"twin": "first_plugin"}, {"first_plugin.py": ""})
    fake_distribution("attnzoo-second", {"twin": "second_plugin"}, {"second_plugin.py": ""})
    points = [p for p in installed_entry_points() if p.name == "twin"]
    plugins = discover(points, {"ATTNZOO_BLOCK_PLUGINS": "attnzoo-second"})
    assert {p.distribution: p.status for p in plugins} == {"attnzoo-first": "ok", "attnzoo-second": "blocked"}


def test_a_misspelt_hook_is_an_error(fake_distribution):
    module = "import attnzoo\n\n@attnzoo.hookimpl\ndef attnzoo_crads():\n    return []\n"
    fake_distribution("attnzoo-typo", {"typo": "typo_plugin"}, {"typo_plugin.py": module})
    plugin = fake_plugins("typo")["typo", "attnzoo-typo"]
    assert plugin.status == "broken"
    assert "typo_plugin: no hook 'attnzoo_crads', expected one of attnzoo_cards, attnzoo_registry_files" in plugin.error
    assert "did you mean 'attnzoo_cards'" in plugin.error


def test_a_hook_without_its_marker_is_an_error(fake_distribution):
    module = "def attnzoo_cards():\n    return []\n"
    fake_distribution("attnzoo-bare", {"bare": "bare_plugin"}, {"bare_plugin.py": module})
    plugin = fake_plugins("bare")["bare", "attnzoo-bare"]
    assert "attnzoo_cards is not marked as a hook; put @attnzoo.hookimpl above it" in plugin.error


@pytest.mark.parametrize("body", ["1 / 0", "import nothing_of_that_name", "raise SystemExit(3)", "def f(:"])
def test_a_plugin_that_raises_on_import_harms_no_other(fake_distribution, body):
    install_good(fake_distribution, "good-one", "gate")
    fake_distribution("attnzoo-bad", {"bad": "bad_plugin"}, {"bad_plugin.py": body})
    plugins = fake_plugins("good-one", "bad")
    assert plugins["good-one", "attnzoo-good-one"].status == "ok"
    assert plugins["bad", "attnzoo-bad"].status == "broken"
    assert "Traceback" in plugins["bad", "attnzoo-bad"].traceback


def test_a_missing_block_names_the_broken_plugins(fake_distribution):
    fake_distribution("attnzoo-bad", {"bad": "bad_plugin"}, {"bad_plugin.py": "1 / 0"})
    registry = Registry(tuple(fake_plugins("bad").values()))
    with pytest.raises(NameNotFound, match=r"plugin 'bad' \(attnzoo-bad\) cannot be used: ZeroDivisionError"):
        registry.find("gate")


def test_a_bad_card_disables_that_block_alone(fake_distribution):
    site = install_good(fake_distribution, "good-one", "gate")
    (site / "good_one" / "other.yaml").write_text("name: other\nclass: X\n")
    plugin = fake_plugins("good-one")["good-one", "attnzoo-good-one"]
    assert [c.name for c in plugin.cards] == ["gate"]
    assert "no 'summary', 'domain', 'shape', 'example'" in str(plugin.faults[0].error)


def test_the_allow_list_admits_only_what_it_names(fake_distribution):
    install_good(fake_distribution, "good-one", "gate")
    install_good(fake_distribution, "good-two", "gate")
    points = [p for p in installed_entry_points() if p.name.startswith("good-")]
    statuses = {p.name: p.status for p in discover(points, {"ATTNZOO_PLUGINS": "good_two"})}
    assert statuses == {"good-one": "blocked", "good-two": "ok"}
    assert {p.status for p in discover(points, {"ATTNZOO_PLUGINS": ""})} == {"blocked"}
    assert {p.status for p in discover(points, {})} == {"ok"}
