import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from attnzoo.cli import main

GOLDEN = Path(__file__).parent / "golden"


def run(*args):
    return CliRunner().invoke(main, [str(a) for a in args])


def test_help_lists_every_command():
    text = run("--help").output
    for path in (Path(__file__).parents[1] / "attnzoo" / "cli").glob("[a-z]*.py"):
        assert f"  {path.stem}" in text, path.stem


def test_a_wrong_command_has_near_matches():
    result = run("lisst")
    assert result.exit_code == 2
    assert "no command 'lisst'; did you mean 'list'?" in result.output


def test_list_shows_the_blocks_of_a_domain():
    result = run("list", "--domain", "channel")
    assert result.exit_code == 0
    assert "vision/se " in result.output
    assert "vision/cbam" not in result.output


def test_list_as_json_is_json():
    rows = json.loads(run("list", "--json").output)
    assert {"vision/se", "vision/cbam"} <= {r["id"] for r in rows}


def test_list_of_an_unknown_domain_is_refused():
    result = run("list", "--domain", "chanel")
    assert result.exit_code == 2
    assert "did you mean 'channel'?" in result.output


def test_show_has_arguments_and_dialects():
    text = run("show", "se").output
    assert "reduction" in text
    assert "moskomule" in text
    facts = json.loads(run("show", "se", "--json").output)
    assert facts["arguments"][0]["required"] is True


def test_show_of_an_unknown_block_is_refused():
    result = run("show", "sse")
    assert result.exit_code == 2
    assert "no block named 'sse'" in result.output


def test_build_builds_and_saves(tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text("block: se\nargs: {channels: 16}\n")
    result = run("build", spec, "--save", tmp_path / "se.safetensors")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "se.safetensors").exists()


def test_build_of_a_faulty_spec_writes_nothing(tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text("block: se\nargs: {chanels: 16}\n")
    result = run("build", spec, "--save", tmp_path / "se.safetensors")
    assert result.exit_code == 2
    assert (
        f"error: {spec}:2:8: args.chanels: block 'se': no argument 'chanels'; did you mean 'channels'" in result.output
    )
    assert not (tmp_path / "se.safetensors").exists()


def test_schema_has_the_blocks_and_their_arguments():
    schema = json.loads(run("schema").output)
    assert "vision/se" in schema["$defs"]["block"]["properties"]["block"]["enum"]
    rules = schema["$defs"]["block"]["allOf"]
    se = next(r for r in rules if "vision/se" in r["if"]["properties"]["block"]["enum"])
    assert se["then"]["properties"]["args"]["properties"]["reduction"] == {"type": "integer", "default": 16}


def test_plugins_shows_versions_and_blocks():
    assert "attnzoo-vision 0.1.0" in run("plugins").output


def test_verify_matches_a_golden_file():
    result = run("verify", GOLDEN / "se--moskomule--a.safetensors")
    assert result.exit_code == 0, result.output
    assert "1 of 1 files match" in result.output


def test_verify_of_changed_numbers_fails(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "se--moskomule--z.safetensors"
    with safe_open(GOLDEN / "se--moskomule--a.safetensors", "pt") as handle:
        tensors = {k: handle.get_tensor(k) for k in handle.keys()}  # noqa: SIM118
        metadata = handle.metadata()
    tensors["state.fc.0.weight"] = tensors["state.fc.0.weight"] * 1.01
    save_file(tensors, path, metadata)
    result = run("verify", path)
    assert result.exit_code == 1
    assert "FAIL" in result.output


def test_verify_says_when_it_has_no_dialect(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    with safe_open(GOLDEN / "se--moskomule--a.safetensors", "pt") as handle:
        tensors = {k: handle.get_tensor(k) for k in handle.keys()}  # noqa: SIM118
        metadata = {**handle.metadata(), "reference": "nobody/nothing"}
    save_file(tensors, path, metadata)
    result = run("verify", path)
    assert result.exit_code == 1
    assert "no dialect fits" in result.output
    assert "'nobody/nothing'" in result.output


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 64])
def test_verify_of_no_golden_file_is_told(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    result = run("verify", path)
    assert result.exit_code == 1
    assert "cannot be read as safetensors" in result.output


def test_weights_verify_checks_the_shipped_files():
    result = run("weights", "verify")
    assert result.exit_code == 0, result.output


def test_demo_draws_a_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="the demo's picture needs matplotlib")
    result = run("demo", "--out", tmp_path / "demo.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    assert "cbam" in result.output
