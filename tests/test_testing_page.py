"""docs/testing.md: its examples run, and every fixture of the pytest plugin has its heading."""

import re
from pathlib import Path

import pytest

from attnzoo.testing import pytest_plugin

pytest_plugins = ["pytester"]

PAGE = (Path(__file__).parents[1] / "docs" / "testing.md").read_text()
FIXTURES = PAGE.partition("## Fixtures\n")[2]
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", FIXTURES, re.MULTILINE | re.DOTALL)


def test_every_fixture_has_its_heading():
    assert re.findall(r"^### (\w+)$", FIXTURES, re.MULTILINE) == pytest_plugin.__all__


def test_the_examples_of_the_fixtures_pass(pytester):
    pytester.makepyfile("\n\n".join(EXAMPLES))
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-W", "error")
    result.assert_outcomes(passed=len(pytest_plugin.__all__))


def test_the_marker_of_slow_checks_is_registered(pytester):
    pytester.makepyfile("import pytest\n\n@pytest.mark.slow\ndef test_x():\n    pass\n")
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "--strict-markers", "-W", "error").assert_outcomes(passed=1)


@pytest.mark.parametrize("name", ["--args", "--shape", "--axes", "--json", "--fast"])
def test_options_of_check_on_the_page_exist(name):
    from attnzoo.cli.check import command

    assert name in PAGE
    assert any(name in p.opts for p in command.params)
