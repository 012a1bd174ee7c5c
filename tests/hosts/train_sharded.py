"""Train a host with blocks, sharded with FSDP2 over processes: ``train_sharded.py RANK PROCESSES FOLDER``."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from hosts import make_host, make_input
from hosts.blocks import put


def main(rank: int, processes: int, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=processes)
    host = make_host("vit")
    put(host, "vit", identity=True)
    mesh = init_device_mesh("cpu", (processes,))
    for layer in host.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(host, mesh=mesh)
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
    mine = make_input("vit").chunk(processes)[rank]
    for _ in range(3):
        optimizer.zero_grad()
        host(mine).square().mean().backward()
        optimizer.step()
    state = get_model_state_dict(host, options=StateDictOptions(full_state_dict=True))
    if rank == 0:
        torch.save(state, folder / "state.pt")
    dist.barrier()  # neither leaves while the other still reads from it
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    # All is done and saved; gloo's threads that still free tensors can abort an interpreter on its way out
    # (github.com/pytorch/pytorch/issues/190489).
    os._exit(0)
