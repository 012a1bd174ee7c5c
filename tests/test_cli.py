import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import attnzoo
from attnzoo.card import read_card
from attnzoo.cli import main
from attnzoo.golden import verify
from attnzoo.plugins import Plugin
from attnzoo.registry import Registry

GOLDEN = Path(__file__).parent / "golden"


def run(*args):
    return CliRunner().invoke(main, [str(a) for a in args])


def test_help_lists_every_command():
    text = run("--help").output
    for path in (Path(__file__).parents[1] / "attnzoo" / "cli").glob("[a-z]*.py"):
        if "@click." in path.read_text():
            assert f"  {path.stem}" in text, path.stem


def test_help_works_after_another_command_of_the_same_process():
    assert run("list").exit_code == run("--help").exit_code == 0


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
    assert {"vision/se", "se", "squeeze-excite"} <= set(schema["$defs"]["name"]["enum"])
    rules = schema["$defs"]["arguments"]["allOf"]
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


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("list", "--plugin", "vison"), "error: no plugin named 'vison'; did you mean 'vision'?; see: attnzoo plugins"),
        (("show", "sse"), "error: no block named 'sse'; did you mean "),
        (
            ("build", "no.yaml"),
            "error: no.yaml: cannot be read (No such file or directory), expected a UTF-8 YAML file",
        ),
        (("weights", "verify", "cbam/fashion-mist"), "error: no weights named 'cbam/fashion-mist'; did you mean "),
        (("weights", "list", "--block", "cbm"), "error: no block named 'cbm'; did you mean "),
        (("sites", "attnzoo.demo.host:SmallCNN", "--grep", "["), "'[': not a regular expression"),
        (("demo", "--out", "no-such-folder/x.png"), "error: no-such-folder/x.png: No such file or directory; check"),
        (("demo", "--out", "x.bogus"), "error: x.bogus: cannot be drawn (Format 'bogus' is not supported"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_input_exits_with_2_and_writes_nothing(arguments, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert text in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("{block: sse}", ":1:1: no block named 'sse'; did you mean "),
        ("{blok: se}", ":1:1: keys 'blok', expected exactly one of block, chain, sum, residual, insert; did you mean"),
        ("{block: cbam, weights: cbam/fashion-mist}", ":1:1: no weights named 'cbam/fashion-mist'; did you mean "),
        ("{block: se, args: {channels: many}}", ":1:20: args.channels: block 'se': argument 'channels' is 'many'"),
        ("{block: se, args: {channels: 16, reduction: 0}}", ":1:1: block 'se': SE: reduction=0 is below 1"),
    ],
)
def test_a_wrong_spec_exits_with_2_and_saves_nothing(spec, text, tmp_path):
    (tmp_path / "spec.yaml").write_text(spec)
    result = run("build", tmp_path / "spec.yaml", "--save", tmp_path / "x.safetensors")
    assert (result.exit_code, [p.name for p in tmp_path.iterdir()]) == (2, ["spec.yaml"])
    assert f"error: {tmp_path / 'spec.yaml'}{text}" in result.output


@pytest.mark.parametrize(
    "constructor", ["{", "[]", '{"args": 5}', '{"kwargs": [1]}', '{"args": [1, 2, 3, 4, 5, 6]}', '{"kwargs": {"x": 1}}']
)
def test_a_golden_file_with_a_wrong_constructor_is_told(constructor, tmp_path):
    golden = GOLDEN / "se--moskomule--a.safetensors"
    with safe_open(golden, "pt") as handle:
        metadata = dict(handle.metadata())
    save_file(load_file(golden), tmp_path / "x.safetensors", {**metadata, "constructor": constructor})
    result = run("verify", tmp_path / "x.safetensors")
    assert result.exit_code == 1, result.output
    assert "0 of 1 files match" in result.output


def test_a_bad_dialect_of_one_block_harms_no_other(tmp_path):
    se = attnzoo.default_registry().find("se")
    bad = tmp_path / "bad.yaml"
    text = se.card.path.read_text().replace("name: se", "name: bad", 1)
    bad.write_text(text[: text.index("dialects:")] + "dialects: {x: 5}")
    plugins = [Plugin("other", "other", "1", "other", cards=(read_card(bad, "other.bad"),))]
    plugins.append(Plugin("vision", "attnzoo-vision", "1", "", cards=(se.card,)))
    assert verify(GOLDEN / "se--moskomule--a.safetensors", Registry(tuple(plugins))).ok
