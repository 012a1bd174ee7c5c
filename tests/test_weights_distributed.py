"""A block sharded over two processes: from a file or the catalogue, checkpointed, and saved back to the same bytes."""

import subprocess
import sys

import pytest
import torch.distributed

PROGRAM = """
import os
import sys
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import fully_shard

import attnzoo

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
whole = StateDictOptions(full_state_dict=True, cpu_offload=True)

reference = attnzoo.create("non-local", weights="non-local/fashion-mnist")
if rank == 0:
    attnzoo.save(reference, f"{folder}/whole.safetensors")
dist.barrier()
loaded = fully_shard(attnzoo.load(f"{folder}/whole.safetensors"), mesh=init_device_mesh("cpu", (2,)))
assert all(p.to_local().numel() < p.numel() for p in loaded.parameters()), "the parameters are not sharded"
gathered = get_model_state_dict(loaded, options=whole)
assert rank or all(torch.equal(gathered[k], v) for k, v in reference.state_dict().items())

block = fully_shard(attnzoo.create("non-local", channels=32), mesh=init_device_mesh("cpu", (2,)))
set_model_state_dict(block, reference.state_dict(), options=whole)

dcp.save({"block": get_model_state_dict(block)}, checkpoint_id=f"{folder}/checkpoint")
fresh = fully_shard(attnzoo.create("non-local", channels=32), mesh=init_device_mesh("cpu", (2,)))
state = {"block": get_model_state_dict(fresh)}
dcp.load(state, checkpoint_id=f"{folder}/checkpoint")
set_model_state_dict(fresh, state["block"])

tensors = get_model_state_dict(fresh, options=whole)
if rank == 0:
    target = attnzoo.create("non-local", channels=32)
    target.load_state_dict(tensors)
    attnzoo.save(target, f"{folder}/sharded.safetensors")
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # all is done and checked; on the way out, threads of torch can abort a process
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no distributed package here")
def test_a_sharded_block_saves_back_to_the_same_bytes(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True) for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], errors
    assert (tmp_path / "sharded.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
