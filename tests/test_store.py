import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import attnzoo
from attnzoo.errors import LoadError, WeightsError
from attnzoo.weights.store import build_on_meta, load_into, read_description


@pytest.fixture
def saved(tmp_path):
    block = attnzoo.create("se", channels=16, reduction=4)
    path = tmp_path / "se.safetensors"
    attnzoo.save(block, path, licence="MIT", source="a test")
    return block, path


def test_a_saved_block_loads_to_the_same_bits(saved):
    block, path = saved
    again = attnzoo.load(path)
    assert type(again) is type(block)
    assert all(torch.equal(a, b) for a, b in zip(block.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_saved_file_describes_itself(saved):
    description = read_description(saved[1])
    assert description["spec"] == {"block": "vision/se", "args": {"channels": 16, "reduction": 4}, "version": 1}
    assert description["plugins"]["vision/se"]["distribution"] == "attnzoo-vision"
    assert (description["licence"], description["source"]) == ("MIT", "a test")


def test_saving_twice_gives_the_same_bytes(saved, tmp_path):
    attnzoo.save(attnzoo.load(saved[1]), tmp_path / "again.safetensors", licence="MIT", source="a test")
    assert (tmp_path / "again.safetensors").read_bytes() == saved[1].read_bytes()


def test_a_composed_block_is_saved_whole(tmp_path):
    se = {"block": "se", "args": {"channels": 8, "reduction": 2}}
    block = attnzoo.build({"chain": [se, {"residual": {"block": "simam"}}]})
    attnzoo.save(block, tmp_path / "c.safetensors")
    x = torch.randn(1, 8, 3, 3)
    assert torch.equal(attnzoo.load(tmp_path / "c.safetensors")(x), block(x))


def test_a_module_that_attnzoo_did_not_build_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="a Linear that attnzoo did not build"):
        attnzoo.save(nn.Linear(2, 2), tmp_path / "x.safetensors")


@pytest.mark.parametrize("cut", [0, 5, 100, 600, -1])
def test_a_truncated_file_is_refused(saved, cut):
    _, path = saved
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        attnzoo.load(path)


def test_a_file_without_description_is_refused(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="no description in the header"):
        attnzoo.load(tmp_path / "x.safetensors")


def test_a_damaged_description_is_refused(saved):
    block, path = saved
    save_file(block.state_dict(), path, {"attnzoo": "{"})
    with pytest.raises(WeightsError, match="the description in the header is damaged"):
        attnzoo.load(path)
    save_file(block.state_dict(), path, {"attnzoo": json.dumps({"format": 99, "spec": {}})})
    with pytest.raises(WeightsError, match="description format 99"):
        attnzoo.load(path)


def test_tensors_of_another_shape_are_told_by_name_and_the_module_is_unchanged():
    block = attnzoo.create("se", channels=16, reduction=4)
    before = {k: v.clone() for k, v in block.state_dict().items()}
    tensors = {**before, "squeeze.weight": torch.ones(2, 16), "other": torch.ones(1)}
    del tensors["excite.bias"]
    with pytest.raises(LoadError) as caught:
        load_into(block, tensors, "file")
    text = str(caught.value)
    assert "missing 'excite.bias'" in text
    assert "unexpected 'other'" in text
    assert "'squeeze.weight' has shape (2, 16), expected (4, 16); the module is unchanged" in text
    assert all(torch.equal(v, before[k]) for k, v in block.state_dict().items())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.register_buffer("table", torch.arange(3.0), persistent=False)


def test_ties_and_unsaved_buffers_survive_meta_construction():
    tensors = {k: v.clone() for k, v in Tied().state_dict().items()}
    tensors["b.weight"] = tensors["a.weight"]
    module = build_on_meta(Tied, tensors)
    assert module.b.weight is module.a.weight
    assert torch.equal(module.table, torch.arange(3.0))


def test_loading_makes_no_second_copy(saved):
    block = attnzoo.load(saved[1])
    assert not any(p.is_meta for p in block.parameters())


@pytest.mark.slow
def test_a_kill_in_the_middle_of_saving_leaves_the_old_file_whole(saved, tmp_path):
    _, path = saved
    script = (
        "import attnzoo, sys\n"
        "block = attnzoo.create('se', channels=256, reduction=1)\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    attnzoo.save(block, sys.argv[1])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    for delay in (0.05, 0.11, 0.02):
        time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert load_file(path)
    attnzoo.load(path)
