"""The allow-list of the environment and of the project."""

import pytest

from attnzoo.errors import PluginError
from attnzoo.plugins import discover, installed_entry_points
from attnzoo.project import Permission, project_file, read_permission


def statuses(folder, environ=None):
    points = [p for p in installed_entry_points() if p.name in ("pin-a", "pin-b")]
    return {p.name: p.status for p in discover(points, environ or {}, folder)}


@pytest.fixture
def two_plugins(fake_distribution):
    for name in ("pin-a", "pin-b"):
        fake_distribution(f"attnzoo-{name}", {name: name.replace("-", "_")}, {f"{name.replace('-', '_')}.py": ""})


def test_a_project_without_a_list_admits_everything(tmp_path):
    assert read_permission({}, tmp_path) == Permission()


def test_attnzoo_toml_is_an_allow_list(tmp_path, two_plugins):
    (tmp_path / "attnzoo.toml").write_text('plugins = ["attnzoo-pin-b"]\n')
    assert statuses(tmp_path) == {"pin-a": "blocked", "pin-b": "ok"}


def test_a_table_in_pyproject_is_one_too_and_counts_in_folders_below(tmp_path, two_plugins):
    (tmp_path / "pyproject.toml").write_text('[tool.attnzoo]\nblock-plugins = ["pin_a"]\n')
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    assert project_file(below) == tmp_path / "pyproject.toml"
    assert statuses(below) == {"pin-a": "blocked", "pin-b": "ok"}


def test_a_pyproject_without_the_table_is_passed_over(tmp_path):
    (tmp_path / "attnzoo.toml").write_text("plugins = []\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert project_file(inner) == tmp_path / "attnzoo.toml"


def test_the_environment_takes_the_place_of_the_projects_allow_list_and_adds_to_its_block_list(tmp_path, two_plugins):
    (tmp_path / "attnzoo.toml").write_text('plugins = ["pin-a"]\nblock-plugins = ["nothing"]\n')
    assert statuses(tmp_path, {"ATTNZOO_PLUGINS": "pin-b"}) == {"pin-a": "blocked", "pin-b": "ok"}
    assert statuses(tmp_path, {"ATTNZOO_BLOCK_PLUGINS": "pin-a"}) == {"pin-a": "blocked", "pin-b": "blocked"}


def test_a_blocked_plugin_says_who_left_it_out(tmp_path):
    (tmp_path / "attnzoo.toml").write_text('plugins = ["pin-b"]\nblock-plugins = ["pin-c"]\n')
    permission = read_permission({}, tmp_path)
    assert permission.refusal("pin-a") == f"left out by {tmp_path / 'attnzoo.toml'}, which does not name it"
    assert permission.refusal("pin-c") == f"left out by {tmp_path / 'attnzoo.toml'}"
    assert permission.refusal("pin_b") == ""


def test_a_blocked_plugin_is_never_imported(tmp_path, fake_distribution):
    fake_distribution("attnzoo-pin-a", {"pin-a": "pin_a"}, {"pin_a.py": "raise RuntimeError('imported')"})
    (tmp_path / "attnzoo.toml").write_text("plugins = []\n")
    assert statuses(tmp_path) == {"pin-a": "blocked"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("plugin = []", "unknown key 'plugin'; did you mean 'plugins' or 'block-plugins'?"),
        ("plugins = 'vision'", "plugins: 'vision', expected a list of plugin names"),
        ("plugins = [1]", "plugins: [1], expected a list of plugin names"),
        ("plugins = [", "not valid TOML"),
    ],
)
def test_a_faulty_file_stops_discovery_with_its_fault(tmp_path, text, fault):
    (tmp_path / "attnzoo.toml").write_text(text)
    with pytest.raises(PluginError) as caught:
        discover([], {}, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'attnzoo.toml'}: {fault}")
