"""The documents say what the code does: examples run, and every hook, error, public name and command appears."""

import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import attnzoo
from attnzoo import errors, hookspecs
from attnzoo.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {p: p.read_text() for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}


def blocks(text, language):
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [body for name, body in fences if name == language]


@pytest.fixture
def readme_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(blocks(README, "yaml")[0])
    return tmp_path


@pytest.mark.parametrize("code", blocks(README, "python"), ids=lambda c: c.strip().splitlines()[-1][:30])
def test_the_readmes_python_examples_run(code, readme_folder):
    exec(compile(code, "README.md", "exec"), {})


def shell_commands():
    text = "\n".join(b for b in blocks(README, "") if "attnzoo " in b and "make " not in b)
    return [c.strip() for line in text.splitlines() for c in re.split(r"\s{3,}", line) if c.strip()]


@pytest.mark.parametrize("command", shell_commands())
def test_the_readmes_commands_run(command, readme_folder):
    words = shlex.split(command)
    assert words[0] == "attnzoo"
    arguments = []
    for word in words[1:]:
        hits = sorted(ROOT.glob(word)) if word.startswith("tests/") else []
        arguments.extend(map(str, hits) if hits else [word])
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output


def test_every_public_name_is_documented():
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    missing = [n for n in attnzoo.__all__ if f"## {n}\n" not in page]
    assert not missing


def test_every_error_is_documented():
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    classes = [n for n in errors.__all__ if inspect.isclass(getattr(errors, n))]
    assert not [n for n in classes if f"## {n}\n" not in page]


def test_every_command_is_documented():
    page = (ROOT / "docs" / "reference" / "commands.md").read_text()
    files = [p.stem for p in (ROOT / "attnzoo" / "cli").glob("[a-z]*.py") if "@click." in p.read_text()]
    assert not [n for n in files if f"## attnzoo {n}\n" not in page]


def test_every_hook_is_documented():
    page = (ROOT / "docs" / "reference" / "hooks.md").read_text()
    assert not [h for h in hookspecs.HOOKS if not re.search(rf"^#+ `?{h}", page, re.MULTILINE)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", PAGES[page]):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_pages_name_no_path_of_a_machine(page):
    assert not re.search(r"(?<![\w.])/(work|root|home)/", PAGES[page])


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["reference", "gallery"])
def test_generated_pages_are_what_the_code_says(tool):
    script = ROOT / "docs" / "tools" / f"{tool}.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
