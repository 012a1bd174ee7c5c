"""``attnzoo install`` and ``uninstall``: pip in this environment, then a look at what came in a new Python."""

import base64
import hashlib
import zipfile

import pytest
from click.testing import CliRunner
from outside import make_outside

from attnzoo import installing
from attnzoo.cli import main
from attnzoo.errors import NameNotFound, PluginError

GOOD = "import attnzoo\n\n@attnzoo.hookimpl\ndef attnzoo_cards():\n    return []\n"


def make_wheel(folder, name, module, entry=True):
    """Write a wheel by hand: one module, and an entry point if it is a plugin."""
    package = name.replace("-", "_")
    info = f"{package}-1.0.dist-info"
    files = {
        f"{package}.py": module,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if entry:
        files[f"{info}/entry_points.txt"] = f"[attnzoo]\n{name.removeprefix('attnzoo-')} = {package}\n"
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name_, text in files.items():
            archive.writestr(name_, text)
    return path


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    return make_outside(tmp_path_factory.mktemp("install"), core_wheel=False)


def attnzoo(outside, *arguments):
    done = outside.run(outside.python, "-m", "attnzoo", *arguments, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_good_plugin_is_installed_shown_and_removed(outside):
    wheel = make_wheel(outside.folder, "attnzoo-tidy", GOOD)
    assert attnzoo(outside, "install", "--no-deps", wheel)[:2] == (0, "plugin tidy (attnzoo-tidy 1.0): 0 blocks\n")
    code, output, _ = attnzoo(outside, "plugins")
    assert code == 0
    assert "tidy         attnzoo-tidy 1.0  0 blocks  loaded in " in output
    assert f"from file://{wheel}" in output
    assert attnzoo(outside, "uninstall", "-y", "tidy")[:2] == (0, "removed attnzoo-tidy\n")
    assert attnzoo(outside, "uninstall", "-y", "tidy")[0] == 2


@pytest.mark.slow
def test_a_broken_plugin_is_reported_with_the_command_that_removes_it(outside):
    code, output, _ = attnzoo(outside, "install", make_wheel(outside.folder, "attnzoo-crash", "1 / 0"))
    assert code == 1
    assert output.splitlines() == [
        "plugin crash (attnzoo-crash 1.0): broken",
        "problem: plugin crash (attnzoo-crash 1.0): ZeroDivisionError: division by zero",
        "    to mend: upgrade it, or remove it: attnzoo uninstall attnzoo-crash",
        "to remove what came: attnzoo uninstall crash",
    ]
    assert attnzoo(outside, "uninstall", "-y", "attnzoo-crash")[0] == 0


@pytest.mark.slow
def test_a_plugin_that_ends_the_process_is_reported_and_can_be_removed(outside):
    killer = make_wheel(outside.folder, "attnzoo-killer", "import os\nos._exit(7)\n")
    code, output, _ = attnzoo(outside, "install", killer)
    assert code == 1
    assert output.splitlines() == [
        "problem: discovery in a new Python ended with exit code 7: no text",
        "    to remove what came: attnzoo uninstall killer",
    ]
    assert attnzoo(outside, "uninstall", "-y", "killer")[:2] == (0, "removed attnzoo-killer\n")


@pytest.mark.slow
def test_what_is_no_plugin_is_told(outside):
    code, output, _ = attnzoo(outside, "install", make_wheel(outside.folder, "plain-thing", "", entry=False))
    assert code == 1
    assert output == "plain-thing came, and none is a plugin (no entry point in the group 'attnzoo')\n"


@pytest.mark.slow
def test_a_failure_of_pip_is_passed_on(outside):
    code, output, error = attnzoo(outside, "install", "no-such-distribution-anywhere")
    assert (code, output) == (2, "")
    assert error.endswith("error: pip install failed with exit code 1; its reason stands above\n")


def test_what_is_no_plugin_is_not_removed():
    with pytest.raises(NameNotFound, match="no plugin named 'torch' is installed"):
        installing.distribution_of("torch")


def test_a_plugin_is_found_by_its_name_and_its_distributions(fake_distribution):
    fake_distribution("attnzoo-tidy-two", {"tidy": "tidy_plugin"}, {"tidy_plugin.py": ""})
    assert installing.distribution_of("tidy") == installing.distribution_of("Attnzoo_Tidy_Two") == "attnzoo-tidy-two"


def test_removing_asks_first(fake_distribution, monkeypatch):
    fake_distribution("attnzoo-tidy-two", {"tidy": "tidy_plugin"}, {"tidy_plugin.py": ""})
    monkeypatch.setattr(installing, "pip_uninstall", lambda names: pytest.fail("removed"))
    result = CliRunner().invoke(main, ["uninstall", "tidy"], input="n\n")
    assert result.exit_code == 1
    assert "remove attnzoo-tidy-two with the plugins tidy? [y/N]: n" in result.output


def test_a_missing_pip_is_told(monkeypatch):
    monkeypatch.setattr(installing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PluginError, match=r"pip is not in this environment .* python -m ensurepip"):
        installing.pip_uninstall(["x"])
