"""Hosts with blocks under DDP and FSDP2 (gloo; CPU)."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hosts import HOSTS, make_host, make_input, same, tensors
from hosts.blocks import gate, put
from torch.nn.parallel import DistributedDataParallel

from attnzoo.errors import SurgeryError
from attnzoo.surgery import Order, disable, insert, inserted

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")


@pytest.fixture
def group(tmp_path):
    """Give a process group of one."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTS)
def test_ddp_trains_the_blocks(name, group):
    host = make_host(name)
    put(host, name, identity=True)
    replica = DistributedDataParallel(host.train())
    optimizer = torch.optim.SGD(replica.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(t.square().mean() for t in tensors(replica(make_input(name)))).backward()
        optimizer.step()
    assert all(p.grad.norm() > 0 for item in inserted(host) for p in item.block.parameters())


@pytest.mark.slow
def test_ddp_trains_a_replacement(group):
    host = make_host("resnet")
    insert(host, Order(gate, "layer1.*.conv2", "replace"))
    replica = DistributedDataParallel(host.train())
    for _ in range(2):  # a parameter without gradient would stop the second step
        replica(make_input("resnet")).square().mean().backward()
    assert all(p.grad.norm() > 0 for item in inserted(host) for p in item.block.parameters())


@pytest.mark.slow
def test_insertion_into_a_wrapped_host_is_refused(group):
    replica = DistributedDataParallel(make_host("resnet"))
    with pytest.raises(SurgeryError, match=r"it is wrapped for DDP; insert first, then wrap, shard or compile"):
        insert(replica, Order(gate, "module.layer1"))


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTS)
def test_fsdp2_gives_the_same_and_trains(name, group):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    host = make_host(name)
    put(host, name, identity=True)
    out, x = host(make_input(name)), make_input(name)
    mesh = init_device_mesh("cpu", (1,))
    for item in inserted(host):
        fully_shard(item.site, mesh=mesh)
    fully_shard(host, mesh=mesh)
    assert same(host(x), out)
    optimizer = torch.optim.SGD(host.train().parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(t.square().mean() for t in tensors(host(x))).backward()
        optimizer.step()
    assert all(p.grad.full_tensor().norm() > 0 for item in inserted(host) for p in item.block.parameters())
    disable(host)
    with torch.no_grad():
        host(x)
    with pytest.raises(SurgeryError, match=r"it is sharded.*; insert first, then wrap, shard or compile"):
        insert(host, Order(gate, "**"))


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    """Train three steps sharded over two processes and once in this one; the weights are the same."""
    script = Path(__file__).parent / "hosts" / "train_sharded.py"
    env = {"PYTHONPATH": str(script.parents[1]), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen([sys.executable, str(script), str(rank), "2", str(tmp_path)], env=env) for rank in range(2)
    ]
    assert [worker.wait(timeout=300) for worker in workers] == [0, 0]
    alone = subprocess.run([sys.executable, str(script), "0", "1", str(tmp_path / "one")], env=env, check=False)
    assert alone.returncode == 0
    two, one = torch.load(tmp_path / "state.pt"), torch.load(tmp_path / "one" / "state.pt")
    assert list(two) == list(one)
    for key, value in two.items():
        torch.testing.assert_close(value, one[key], rtol=1e-4, atol=1e-5, msg=key)
