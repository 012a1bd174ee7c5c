"""Saved files under kills, sharded blocks, and tensors of other sizes."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import attnzoo
from attnzoo.errors import LoadError
from attnzoo.weights.store import load_into

SAVE_FOR_EVER = """
import os, signal, sys
import attnzoo
block = attnzoo.create("se", channels=1024)
while sys.stdin.readline():  # every child starts without importing torch again
    child = os.fork()
    if not child:
        while True:
            attnzoo.save(block, sys.argv[1])
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


def filled(module, value):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)
    return module


def test_tensors_of_other_sizes_are_refused_unless_adapting_is_asked_for():
    wide, narrow = nn.Linear(8, 4), filled(nn.Linear(4, 2), 1.0)
    before = wide.weight.detach().clone()
    with pytest.raises(LoadError) as caught:
        load_into(wide, narrow.state_dict(), "narrow")
    assert set(caught.value.report.misshapen) == {"weight", "bias"}
    assert torch.equal(wide.weight, before)


def test_adapting_keeps_sums_over_inputs_and_is_reported():
    wide, narrow = nn.Linear(8, 4), filled(nn.Linear(4, 2), 1.0)
    report = load_into(wide, narrow.state_dict(), "narrow", adapt=True)
    assert report.ok
    assert report.adapted == {"weight": ((2, 4), (4, 8)), "bias": ((2,), (4,))}
    assert torch.equal(wide.weight, torch.full((4, 8), 0.5))
    assert torch.equal(wide.bias, torch.ones(4))


def test_adapting_does_not_make_up_for_missing_names():
    module = nn.Linear(8, 4)
    before = module.weight.detach().clone()
    with pytest.raises(LoadError) as caught:
        load_into(module, {"weight": torch.ones(2, 2)}, "w", adapt=True)
    assert caught.value.report.missing == ("bias",)
    assert torch.equal(module.weight, before)


def test_adapting_does_not_change_the_number_of_axes():
    with pytest.raises(LoadError) as caught:
        load_into(nn.Linear(8, 4), {"weight": torch.ones(4, 8, 1), "bias": torch.ones(4)}, "w", adapt=True)
    assert caught.value.report.misshapen == {"weight": ((4, 8, 1), (4, 8))}


@pytest.mark.slow
def test_a_kill_at_any_moment_of_saving_leaves_a_whole_file(tmp_path):
    path = tmp_path / "se.safetensors"
    rng = random.Random(0)
    arguments = [sys.executable, "-c", SAVE_FOR_EVER, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(100):
            process.stdin.write("go\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            time.sleep(rng.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == "gone\n"
            if path.exists():
                attnzoo.load(path)
        process.stdin.close()
    assert path.exists()
    assert [p for p in tmp_path.iterdir() if p.suffix == ".safetensors" and p != path] == []


SHARDED = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
import attnzoo
from attnzoo.builder import build_spec, spec_of

rank, rendezvous, source, target = int(sys.argv[1]), *sys.argv[2:]
dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
block = attnzoo.load(source)
spec = spec_of(block)
fully_shard(block, mesh=init_device_mesh("cpu", (2,)))
assert all(isinstance(p, DTensor) for p in block.parameters())
assert all(p.to_local().numel() < p.numel() for p in block.parameters())
state = get_model_state_dict(block, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
if rank == 0:
    whole = build_spec(spec, attnzoo.default_registry())
    whole.load_state_dict(state)
    attnzoo.save(whole, target)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_a_block_sharded_over_two_processes_is_saved_to_the_same_bytes(tmp_path):
    source, target = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    attnzoo.save(attnzoo.create("multi_head_attention", embed_dim=32, num_heads=4), source)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SHARDED, str(rank), str(tmp_path / "meet"), str(source), str(target)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert target.read_bytes() == source.read_bytes()
