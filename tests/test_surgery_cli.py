"""The commands sites, insert and profile, and named placements."""

import json
import re

import pytest
from click.testing import CliRunner
from hosts import make_host, make_input, same

import attnzoo
from attnzoo.cli import main
from attnzoo.errors import NameNotFound
from attnzoo.hosts import build_host, families, placements_for
from attnzoo.registry import default_registry

pytestmark = pytest.mark.skipif(
    not any(True for _ in families(default_registry())), reason="attnzoo-hosts is not installed"
)


def run(*args, code=0):
    result = CliRunner().invoke(main, args)
    assert result.exit_code == code, result.output
    return result.output


def test_sites_lists_modules_shapes_and_placements():
    output = run("sites", "hosts.resnet:ResNet", "--grep", "layer2", "--shape", "1,3,32,32")
    assert re.search(r"^layer2\.1 +BasicBlock +1x32x8x8$", output, re.MULTILINE)
    assert "at: residual-branches  the end of every residual branch, before the sum (after 4: layer1.0.bn2" in output
    assert "layer1.0  " not in output


def test_sites_as_json():
    data = json.loads(run("sites", "hosts.unet:UNet", "--json"))
    assert {"site": "bottom", "class": "DoubleConv", "shape": "1x32x56x56"} in data["sites"]


def test_insert_prints_the_tree_and_the_report(tmp_path):
    spec, saved = tmp_path / "s.yaml", tmp_path / "blocks.safetensors"
    spec.write_text("insert:\n  - {block: cbam, at: residual-branches, identity: true}\n")
    args = ("hosts.resnet:ResNet", "--spec", str(spec), "--shape", "1x3x32x32", "--save", str(saved))
    output = run("insert", *args)
    assert "+         [cbam: CBAM, after, identity gate]" in output
    assert "ResNet at fake input 1x3x32x32: 4 inserted" in output
    host = make_host("resnet")
    assert len(attnzoo.load_inserted(host, saved)) == 4


def test_insert_of_one_block_as_json():
    report = json.loads(run("insert", "hosts.unet:UNet", "--block", "se", "--at", "bottom", "--identity", "--json"))
    assert (report["rows"][0]["site"], report["rows"][0]["identity"]) == ("bottom", True)


def test_errors_are_told_without_a_traceback():
    output = run("insert", "hosts.unet:UNet", "--block", "se", "--at", "botom", code=2)
    assert output.startswith("error: at 'botom': no module of UNet matches; did you mean 'bottom'?")
    output = run("insert", "hosts.unet:UNet", code=2)
    assert "give either --spec FILE, or --block NAME and --at PLACE" in output
    output = run("sites", "hosts.unet:UNett", code=2)
    assert "module:function was expected, a function of yours that returns a model" in output
    output = run("sites", "torchvison/resnet18", code=2)
    assert output.startswith("error: host 'torchvison/resnet18': no such host; did you mean 'torchvision'?")
    assert "a shape such as 1,3,224,224 was expected" in run("sites", "hosts.unet:UNet", "--shape", "12", code=2)


def test_profile_of_a_block_and_of_a_host(tmp_path):
    assert re.search(r"^SE +\d", run("profile", "se", "--shape", "1,16,8,8", "--runs", "2"), re.MULTILINE)
    assert "MultiHeadAttention on cpu at input 1x64x" in run("profile", "multi-head-attention", "--runs", "0")
    spec = tmp_path / "s.yaml"
    spec.write_text("insert:\n  - {block: se, at: bottom}\n")
    args = ("hosts.unet:UNet", "--spec", str(spec), "--shape", "1,3,32,32", "--runs", "0", "--json")
    data = json.loads(run("profile", *args))
    assert data["whole"]["parameters"] - data["bare"]["parameters"] == data["blocks"][0]["parameters"] > 0
    assert data["whole"]["flops"] == data["bare"]["flops"] + data["blocks"][0]["flops"] == 2 * data["whole"]["macs"]


def test_profile_draws_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    run("profile", "cbam", "--shape", "1,32,8,8", "--runs", "1", "--picture", str(tmp_path / "p.png"))
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_a_placement_by_name_is_where_it_says():
    host, x = make_host("resnet"), make_input("resnet")
    old = host(x)
    report = attnzoo.insert(host, "se", at="residual-branches", identity=True)
    assert [row.site for row in report.rows] == [f"layer{i}.{j}.bn2" for i in (1, 2) for j in (0, 1)]
    assert same(host(x), old)


def test_a_placement_that_a_host_has_not_is_told_with_those_it_has():
    text = "at 'c2f': ResNet has no place of that name; it has "
    with pytest.raises(NameNotFound, match=re.escape(text)):
        attnzoo.insert(make_host("resnet"), "se", at="c2f")
    with pytest.raises(NameNotFound, match=r"no module of ResNet matches.*; or the placement 'residual-branches'\?"):
        attnzoo.insert(make_host("resnet"), "se", at="residual-branch")


def test_places_of_a_detector_and_of_a_transformer():
    assert "c2f" in placements_for(make_host("detector"), default_registry())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "name", "place", "count"),
    [
        ("torchvision", "torchvision/resnet18", "residual-branches", 8),
        ("torchvision", "torchvision/swin_t", "mlp-outputs", 12),
        ("timm", "timm/resnet18", "residual-branches", 8),
        ("timm", "timm/vit_tiny_patch16_224", "mlp-outputs", 12),
        ("timm", "timm/convnext_atto", "stage-outputs", 4),
        ("ultralytics", "ultralytics/yolov8n", "c2f", 8),
        ("segmentation_models_pytorch", "smp/unet-resnet18", "decoder-blocks", 5),
        ("transformers", "transformers/vit", "mlp-outputs", 12),
    ],
)
def test_places_in_the_real_libraries(library, name, place, count):
    pytest.importorskip(library)
    host = build_host(name, default_registry()).eval()
    keys = list(host.state_dict())
    report = attnzoo.insert(host, {"block": "se", "args": {"reduction": 4}}, at=place, identity=True, view="map")
    assert len(report.rows) == count
    assert [key for key in host.state_dict() if "attnzoo" not in key] == keys
    attnzoo.remove(host)
    assert list(host.state_dict()) == keys
