"""The examples of docs/surgery.md run, those of other libraries where these are installed."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from attnzoo.spec import InsertSpec
from attnzoo.spec_reader import read_spec_text

PAGE = (Path(__file__).parents[1] / "docs" / "surgery.md").read_text()
EXAMPLES = re.findall(r"(?:<!-- needs: (\w+) -->\n)?```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("needs", "code"), [pytest.param(*e, id=e[0] or "core") for e in EXAMPLES])
def test_an_example_runs(needs, code, tmp_path, monkeypatch):
    if needs and find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "surgery.md", "exec"), {})


def test_the_spec_is_a_spec():
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert isinstance(read_spec_text(text), InsertSpec)
