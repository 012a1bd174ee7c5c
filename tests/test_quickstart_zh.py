"""docs/zh/quickstart.md: its examples run, in order, in one folder."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from attnzoo.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "zh" / "quickstart.md").read_text()
FENCES = re.findall(r"^```(\w+)(?: ([^\n]*))?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for language, info, body in FENCES:
        if info:
            (tmp_path / info).write_text(body)
        elif language == "python":
            exec(compile(body, "quickstart.md", "exec"), {})
        elif "pip install" not in body:
            for line in body.splitlines():
                result = CliRunner().invoke(main, shlex.split(line.removeprefix("$ attnzoo ")))
                assert result.exit_code == 0, f"{line}\n{result.output}"


def test_the_page_is_chinese():
    prose = re.sub(r"^```.*?^```$|`[^`]*`", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(re.findall(r"[\u4e00-\u9fff]", prose)) > 500
