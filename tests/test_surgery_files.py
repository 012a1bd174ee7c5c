"""Saving the inserted blocks alone, and loading them into another copy of the host."""

import json
import re

import pytest
import torch
from hosts import HOSTS, make_host, make_input, same
from hosts.blocks import Gate, TokenGate, gate, order, put, wake
from hosts.resnet import ResNet
from safetensors import safe_open
from torch import nn

from attnzoo.errors import SurgeryError, WeightsError
from attnzoo.surgery import Order, insert, inserted, load_inserted, save_inserted

hosts = pytest.mark.parametrize("name", HOSTS)


def build(place):
    return Gate(place.channels)


def saved(name, path, **changes):
    host = make_host(name)
    put(host, name, identity=True, **changes)
    wake(host)
    save_inserted(host, path, licence="MIT", source="a test")
    return host


@hosts
def test_a_fresh_host_with_loaded_blocks_gives_the_same(name, tmp_path):
    host = saved(name, tmp_path / "blocks.safetensors")
    fresh = make_host(name)
    items = load_inserted(fresh, tmp_path / "blocks.safetensors", build)
    assert [item.key for item in items] == [item.key for item in inserted(host)]
    assert same(fresh(make_input(name)), host(make_input(name)))


@hosts
def test_blocks_that_are_inserted_already_are_filled(name, tmp_path):
    host = saved(name, tmp_path / "blocks.safetensors")
    fresh = make_host(name)
    put(fresh, name, identity=True)
    load_inserted(fresh, tmp_path / "blocks.safetensors")
    assert same(fresh(make_input(name)), host(make_input(name)))


def test_the_file_is_small_and_describes_itself(tmp_path):
    path = tmp_path / "blocks.safetensors"
    host = make_host("resnet")
    put(host, "resnet", describe=lambda _: {"block": "vision/gate", "args": {"bias": True}})
    save_inserted(host, path, licence="MIT")
    assert path.stat().st_size < 8000
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["attnzoo"])
        assert sorted(file.keys()) == sorted(key for key in host.state_dict() if "attnzoo" in key)
    assert about["spec"]["insert"][0] == {
        "block": "vision/gate",
        "args": {"bias": True},
        "at": "layer1.1",
        "position": "after",
        "identity": False,
    }
    assert (about["host"], about["licence"], len(about["blocks"])) == ("ResNet", "MIT", 2)


def test_some_of_the_blocks_can_be_saved(tmp_path):
    host = make_host("resnet")
    put(host, "resnet")
    save_inserted(host, tmp_path / "one.safetensors", at="layer2.*")
    assert [item.key for item in load_inserted(make_host("resnet"), tmp_path / "one.safetensors", build)] == [
        "layer2.1/gate"
    ]


def refused(host, path, text, build=build, error=SurgeryError):
    keys = list(host.state_dict())
    values = [value.clone() for value in host.state_dict().values()]
    with pytest.raises(error, match=re.escape(text)):
        load_inserted(host, path, build)
    assert list(host.state_dict()) == keys
    assert all(torch.equal(a, b) for a, b in zip(host.state_dict().values(), values, strict=True))


def test_another_host_is_refused(tmp_path):
    path = tmp_path / "blocks.safetensors"
    saved("resnet", path)
    refused(make_host("unet"), path, "it is for another host than this UNet: no module 'layer1.1'")
    wider = make_host("resnet")
    wider.layer2[1].conv2 = nn.Conv2d(32, 32, 5, padding=2, bias=False)
    refused(wider, path, "this ResNet: 'layer2.1' has tensors of other names or shapes than when the file was saved")
    other = make_host("resnet")
    other.layer2[1] = nn.Identity()
    refused(other, path, "this ResNet: 'layer2.1' is a Identity, BasicBlock was expected")


def test_another_head_does_no_harm(tmp_path):
    path = tmp_path / "blocks.safetensors"
    saved("resnet", path)
    assert len(load_inserted(ResNet(classes=99), path, build)) == 2


def test_a_file_for_another_spec_is_refused(tmp_path):
    path = tmp_path / "blocks.safetensors"
    saved("resnet", path)
    host = make_host("resnet")
    insert(host, Order(gate, "layer1.1", identity=True))
    refused(host, path, "it is for another spec: the file has 'layer2.1/gate', the host has not")
    host = make_host("resnet")
    put(host, "resnet")
    was, now = "after it, with identity gate", "after it, without identity gate"
    refused(host, path, f"it is for another spec: 'layer1.1/gate' was {was} in the file and is {now} in the host")


def pair(place):
    return nn.Sequential(Gate(place.channels), nn.Conv2d(place.channels, place.channels, 1))


def test_blocks_of_other_shapes_are_refused(tmp_path):
    path = tmp_path / "blocks.safetensors"
    saved("unet", path)
    host = make_host("unet")
    insert(host, order("unet", make=pair, name="gate", identity=True))
    text = (
        "its tensors do not fit the inserted blocks: 1 tensors fit; missing 'bottom.attnzoo.gate.block.0.excite.weight'"
    )
    refused(host, path, text)
    refused(make_host("unet"), path, text, pair)


def test_a_builder_of_the_wrong_block_is_refused(tmp_path):
    path = tmp_path / "blocks.safetensors"
    saved("unet", path)
    refused(make_host("unet"), path, "site 'bottom': TokenGate cannot take its tensor", lambda _: TokenGate(32))
    text = "UNet has no inserted blocks to fill; insert them, or give build=…"
    refused(make_host("unet"), path, text, None)


def test_files_that_are_no_files_of_blocks_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    text = "no inserted blocks are described in it, a file from save_inserted was expected"
    refused(make_host("unet"), tmp_path / "a.safetensors", text)
    (tmp_path / "b.safetensors").write_bytes(b"nonsense")
    refused(make_host("unet"), tmp_path / "b.safetensors", "not a whole safetensors file", error=WeightsError)
    refused(make_host("unet"), tmp_path / "c.safetensors", "no such file", error=WeightsError)
    damaged = {"attnzoo": json.dumps({"kind": "inserted", "format": 1, "blocks": [{"site": "x"}]})}
    save_file({"a": torch.zeros(1)}, tmp_path / "d.safetensors", damaged)
    text = "the description of its blocks is damaged"
    refused(make_host("unet"), tmp_path / "d.safetensors", text, error=WeightsError)


def test_nothing_inserted_is_nothing_to_save(tmp_path):
    with pytest.raises(SurgeryError, match=r"host UNet: nothing is inserted in it, so there is nothing to save"):
        save_inserted(make_host("unet"), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
