"""Lock files: what they record, and what a locked build refuses."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

import attnzoo
from attnzoo.card import Card
from attnzoo.cli import main
from attnzoo.errors import LockError, NameNotFound, WeightsError
from attnzoo.lock import check_lock, lock_of, lock_path, write_lock
from attnzoo.plugins import Plugin
from attnzoo.registry import Registry
from attnzoo.spec_reader import read_spec_text

OLD = Card("gate", "Gate", "m", "s", "mixed", "n c -> n c", {})
NEW = replace(OLD, version=2)
SPEC = read_spec_text("chain: [gate, {block: gate, args: {channels: 8}}]")


def registry(*cards, version="1.0"):
    return Registry((Plugin("acme", "attnzoo-acme", version, "m", cards=cards),))


def differences(call):
    with pytest.raises(LockError) as caught:
        call()
    return caught.value.differences


@pytest.fixture
def locked(tmp_path):
    path = tmp_path / "net.lock.yaml"
    write_lock(lock_of([SPEC], registry(OLD)), path)
    return path


def test_a_lock_records_plugins_and_contract_versions():
    lock = lock_of([SPEC], registry(OLD))
    assert lock["plugins"] == [{"name": "acme", "distribution": "attnzoo-acme", "version": "1.0"}]
    assert lock["blocks"] == [{"block": "acme/gate", "version": 1}]
    assert lock["attnzoo"] == attnzoo.__version__


def test_what_was_locked_is_accepted(locked):
    check_lock([SPEC], registry(OLD), locked)


def test_another_plugin_version_and_formula_are_refused_together(locked):
    mend = "install what is locked, or run attnzoo lock again"
    assert differences(lambda: check_lock([SPEC], registry(NEW, version="2.0"), locked)) == [
        f"{locked}: plugins: acme: locked distribution attnzoo-acme, version 1.0, "
        f"found distribution attnzoo-acme, version 2.0; {mend}",
        f"{locked}: blocks: acme/gate: locked version 1, found version 2; {mend}",
    ]


def test_an_old_formula_that_the_plugin_still_has_is_accepted(tmp_path):
    spec = read_spec_text("{block: gate, version: 1}")
    path = tmp_path / "net.lock.yaml"
    write_lock(lock_of([spec], registry(OLD)), path)
    check_lock([spec], registry(OLD, NEW), path)
    with pytest.raises(NameNotFound, match=r"contract version 1 was asked for, attnzoo-acme 1\.0 has 2"):
        check_lock([spec], registry(NEW), path)


def test_a_changed_spec_is_refused(locked):
    other = read_spec_text("chain: [gate, {block: gate, args: {channels: 9}}]")
    assert differences(lambda: check_lock([other], registry(OLD), locked)) == [
        f"{locked}: the spec was changed after it was locked; run attnzoo lock again"
    ]


def test_changed_weights_are_refused(tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"first")
    spec = read_spec_text(f"{{block: gate, weights: '{weights}'}}")
    path = tmp_path / "net.lock.yaml"
    write_lock(lock_of([spec], registry(OLD)), path)
    weights.write_bytes(b"second")
    (text,) = differences(lambda: check_lock([spec], registry(OLD), path))
    assert text.startswith(f"{path}: weights: {weights}: locked sha256 a7937b64b8caa58f")


def test_weights_without_a_known_hash_cannot_be_locked():
    spec = read_spec_text("{block: gate, weights: 'https://example.org/w.safetensors'}")
    with pytest.raises(WeightsError, match="no registry file has its whole sha256"):
        lock_of([spec], registry(OLD))


@pytest.mark.parametrize("text", ["", "lock: 1\n", "[1]", "lock: 1\nplugins: 3\n", "a: b: c"])
def test_a_file_that_is_no_lock_is_refused(tmp_path, text):
    path = tmp_path / "net.lock.yaml"
    path.write_text(text)
    (fault,) = differences(lambda: check_lock([SPEC], registry(OLD), path))
    assert fault.startswith(f"{path}: not a lock file (")


def test_a_lock_of_another_format_is_refused(locked):
    locked.write_text(locked.read_text().replace("lock: 1", "lock: 9"))
    (fault,) = differences(lambda: check_lock([SPEC], registry(OLD), locked))
    assert fault == f"{locked}: a lock of format 9, expected 1; run attnzoo lock again"


def test_the_commands_lock_build_and_refuse(tmp_path):
    spec = tmp_path / "net.yaml"
    spec.write_text("block: se\nargs: {channels: 16}\n")
    run = lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])  # noqa: E731
    missing = run("build", spec, "--locked")
    assert missing.exit_code == 2
    assert f"error: {lock_path(spec)}: no such file, expected a lock" in missing.output
    assert run("lock", spec).output == f"{lock_path(spec)}: plugins 1, blocks 1, weights 0\n"
    assert run("build", spec, "--locked").exit_code == 0
    assert run("lock", spec, "--check").output == f"{lock_path(spec)}: everything is as it was locked\n"
    lock_path(spec).write_text(lock_path(spec).read_text().replace("version: 1", "version: 7"))
    refused = run("build", spec, "--locked")
    assert refused.exit_code == 2
    assert "blocks: vision/se: locked version 7, found version 1" in refused.output
