"""docs/reference/hooks.md against the code: one heading a hook, its signature, and an example that is accepted."""

import inspect
import re
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from attnzoo import hookspecs
from attnzoo.plugins import load_plugin

PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "hooks.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def fence(section, kind):
    (code,) = re.findall(rf"^```python {kind}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return code


def test_every_hook_has_its_heading_in_the_order_of_the_code():
    assert tuple(SECTIONS) == hookspecs.HOOKS


@pytest.mark.parametrize("hook", hookspecs.HOOKS)
def test_the_signature_is_the_codes(hook):
    signature = str(inspect.signature(getattr(hookspecs, hook))).replace("'", "").replace("pathlib.", "")
    assert fence(SECTIONS[hook], "signature") == f"def {hook}{signature}\n"


@pytest.mark.parametrize("hook", hookspecs.HOOKS)
def test_the_first_sentence_is_the_docstrings(hook):
    first = " ".join(inspect.getdoc(getattr(hookspecs, hook)).split()).replace("``", "`").partition(", as a rule")[0]
    text = " ".join(SECTIONS[hook].split())
    assert first.rstrip(".") in text


@pytest.mark.parametrize("hook", hookspecs.HOOKS)
def test_the_example_is_accepted_as_a_plugin(hook, tmp_path, monkeypatch):
    package = tmp_path / "attnzoo_acme"
    package.mkdir()
    for name in ("__init__.py", "registry.yaml"):
        (package / name).write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "attnzoo_acme", raising=False)
    module = types.ModuleType("hook_example")
    module.__file__ = str(package / "plugin.py")
    monkeypatch.setitem(sys.modules, "hook_example", module)
    exec(compile(fence(SECTIONS[hook], "example"), "hooks.md", "exec"), module.__dict__)
    plugin = load_plugin(EntryPoint("acme", "hook_example", "attnzoo"))
    assert (plugin.status, plugin.error, plugin.missing_files) == ("ok", "", ())
    (result,) = getattr(plugin.manager.hook, hook)()
    assert isinstance(result, list)
