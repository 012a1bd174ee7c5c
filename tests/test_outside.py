"""Proof from outside: wheels in a new environment, no repository on the path, a third party's plugin, the tutorial."""

import re
import shlex
import time
from pathlib import Path

import pytest
from outside import ROOT, copy_tree, make_outside

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "write-a-plugin.md").read_text()
FENCES = re.findall(r"^```(\w+)(?: ([^\n]*))?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
USE = """
import attnzoo, torch, sys
from pathlib import Path

spec = Path(sys.argv[1])
assert not any((Path(p) / "attnzoo").is_dir() and "site-packages" not in p for p in sys.path)
assert "site-packages" in attnzoo.__file__
x = torch.randn(2, 8, 5, 5)
by_name = attnzoo.create("acme/brightness-gate", weights="brightness-gate/trained")
assert by_name.attention(torch.ones(1, 8, 1, 1))["pixel"].item() > 0.9
chain = attnzoo.build(spec)
first, second = chain[0], chain[1].inner
assert torch.equal(first(x), by_name(x))
assert (type(first).__name__, type(second).__name__) == ("BrightnessGate", "BrightnessGateV1")
attnzoo.save(first, "gate.safetensors")
assert torch.equal(attnzoo.load("gate.safetensors")(x), first(x))
print([c.name for c in attnzoo.list_blocks()])
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    return make_outside(tmp_path_factory.mktemp("outside"))


@pytest.fixture(scope="module")
def acme(outside):
    """Build and install the wheel of the third party's plugin; return where its source lies."""
    source = copy_tree(ROOT / "tests" / "data" / "third_party" / "attnzoo-acme", outside.folder / "acme-source")
    outside.run(outside.python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "wheels", source)
    (wheel,) = (outside.folder / "wheels").glob("attnzoo_acme-*.whl")
    done = outside.run("attnzoo", "install", wheel)
    assert done.stdout.splitlines() == [
        "plugin acme (attnzoo-acme 1.2.0): 2 blocks",
        "    acme/brightness-gate",
        "    acme/masked-pool",
    ]
    return source


def test_a_third_partys_plugin_works_by_name_from_yaml_and_with_its_weights(outside, acme):
    (outside.folder / "use.py").write_text(USE)
    done = outside.run(outside.python, "-P", "use.py", acme / "spec.yaml")
    assert done.stdout == "['brightness-gate', 'masked-pool']\n"


def test_its_registry_file_is_found_and_its_weights_verify(outside, acme):
    assert outside.run("attnzoo", "weights", "verify", "brightness-gate/trained").stdout.startswith(
        "ok   brightness-gate/trained"
    )


def test_its_own_tests_pass(outside, acme):
    done = outside.run(outside.python, "-m", "pytest", "-q", "-m", "not slow", acme)
    assert re.search(r"\d+ passed", done.stdout)
    assert "failed" not in done.stdout


def test_the_doctor_finds_it_healthy(outside, acme):
    assert outside.run("attnzoo", "doctor").stdout.endswith("no problems\n")


def test_a_known_plugin_that_is_not_installed_is_named(outside, acme):
    done = outside.run("attnzoo", "show", "triplet-attention", check=False)
    assert done.returncode == 2
    assert "it is in attnzoo-vision, which is not installed; pip install attnzoo-vision" in done.stderr
    assert "attnzoo install attnzoo-vision" in outside.run("attnzoo", "search", "triplet").stdout


def expected_lines(wanted, output):
    """Every wanted line occurs, in this order; `…` at its end stands for anything."""
    lines = iter(output.splitlines())
    for line in wanted:
        start = line.removesuffix("…").rstrip()
        exact = not line.endswith("…")
        hit = any((found.rstrip() == start) if exact else found.startswith(start) for found in lines)
        assert hit or (exact and any(start in found for found in output.splitlines())), f"no line {line!r} in\n{output}"


def commands_of(text):
    """Return (command, expected lines) for each line that starts with `$`."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(lines[0], lines[1:]) for lines in (p.splitlines() for p in parts)]


def test_the_tutorial_takes_at_most_ten_commands():
    main = PAGE.partition("## Next")[0]
    assert 5 < len(re.findall(r"^\$ ", main, re.MULTILINE)) <= 10


def test_every_step_of_the_tutorial_works_as_written_within_ten_minutes(outside):
    start = time.monotonic()
    for language, info, body in FENCES:
        if language == "console":
            for command, wanted in commands_of(body):
                done = outside.run(*shlex.split(command), check=False)
                assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
                expected_lines(wanted, done.stdout)
        elif info == "run":
            outside.run(outside.python, "-c", body)
        else:
            path = outside.folder / Path(info)
            assert path.parent.is_dir(), info
            path.write_text(body)
    assert time.monotonic() - start < 600
    assert [p.name for p in (outside.folder / "dist").glob("*.whl")] == ["attnzoo_pixel_gate-0.1.0-py3-none-any.whl"]


def test_uninstall_removes_what_install_brought(outside, acme):
    done = outside.run("attnzoo", "uninstall", "--yes", "acme")
    assert done.stdout.endswith("removed attnzoo-acme\n")
    assert "acme" not in outside.run("attnzoo", "plugins").stdout
