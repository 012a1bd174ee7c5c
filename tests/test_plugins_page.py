"""registry.yaml and docs/plugins.md: the plugins of this repository are listed, with blocks that exist."""

import importlib.util
from pathlib import Path

import pytest

from attnzoo.weights.catalogue import read_registry_file

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("plugins_page_tool", ROOT / "docs" / "tools" / "plugins.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_registry_yaml_says(tool):
    assert (ROOT / "docs" / "plugins.md").read_text() == tool.plugins_page(read_registry_file(ROOT / "registry.yaml"))


def test_every_plugin_of_this_repository_is_listed_and_every_listed_block_exists(tool):
    known = {p.distribution: p for p in read_registry_file(ROOT / "registry.yaml").plugins}
    for plugin in tool.first_party():
        assert known[plugin["distribution"]].name == plugin["name"]
        assert set(known[plugin["distribution"]].blocks) <= set(plugin["blocks"])


def test_renewing_the_list_keeps_other_plugins_and_everything_after_it(tool, tmp_path, monkeypatch):
    text = "plugins:\n- {name: points, distribution: attnzoo-points, summary: P., blocks: [x]}\nweights:\n- kept: yes\n"
    path = tmp_path / "registry.yaml"
    path.write_text(text.partition("weights:")[0])
    monkeypatch.setattr(tool, "REGISTRY", path)
    renewed = tool.registry_text(text)
    assert "- name: points\n  distribution: attnzoo-points\n  summary: P.\n  blocks: [x]\n" in renewed
    assert renewed.endswith("weights:\n- kept: yes\n")
    assert "distribution: attnzoo-vision" in renewed
