"""A host keeps its keys, classes and values, and everything that is done to models can still be done to it."""

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hosts import HOSTS, INPUTS, make_host, make_input, same, tensors
from hosts.blocks import gate, put, wake
from torch import nn

from attnzoo.surgery import Order, insert, inserted

hosts = pytest.mark.parametrize("name", HOSTS)
positions = pytest.mark.parametrize("position", ["before", "after", "replace"])


def operated(name, **changes):
    """Return a host with awake blocks and its output."""
    host = make_host(name)
    put(host, name, identity=True, **changes)
    wake(host)
    return host, host(make_input(name))


def operated_conv(position):
    """Return a residual network with a block at a convolution, and its output."""
    host = make_host("resnet")
    insert(host, Order(gate, "layer1.*.conv2", position))
    return host, host(make_input("resnet"))


def own(state):
    return {key: value for key, value in state.items() if "attnzoo" not in key}


@hosts
def test_keys_classes_and_values_are_kept(name):
    plain, (host, _) = make_host(name), operated(name)
    assert list(own(host.state_dict())) == list(plain.state_dict())
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in own(host.state_dict()).items())
    for path, module in plain.named_modules():
        assert type(host.get_submodule(path)) is type(module)


@hosts
@pytest.mark.parametrize("assign", [False, True])
def test_the_old_checkpoint_still_loads_strictly(name, assign):
    host, _ = operated(name)
    blocks = {key: value.clone() for key, value in host.state_dict().items() if "attnzoo" in key}
    parameters = dict(host.named_parameters())
    result = host.load_state_dict(make_host(name, seed=3).state_dict(), strict=True, assign=assign)
    assert not result.missing_keys
    assert not result.unexpected_keys
    assert all(torch.equal(host.state_dict()[key], value) for key, value in blocks.items())
    assert all(host.get_parameter(key) is parameters[key] for key in parameters if "attnzoo" in key)


@hosts
def test_the_new_state_dict_loads_into_another_operated_host(name):
    host, out = operated(name)
    fresh = make_host(name, seed=4)
    put(fresh, name, identity=True)
    fresh.load_state_dict(host.state_dict())
    assert same(fresh(make_input(name)), out)


def test_a_checkpoint_with_half_a_block_does_not_load_strictly():
    host, _ = operated("resnet")
    state = host.state_dict()
    del state["layer1.1.attnzoo.gate.block.excite.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*layer1\.1\.attnzoo\.gate\.block\.excite\.weight"):
        host.load_state_dict(state)


@hosts
def test_a_pickled_host_gives_the_same(name):
    host, out = operated(name)
    assert same(pickle.loads(pickle.dumps(host))(make_input(name)), out)


@hosts
def test_a_copy_calls_its_own_blocks(name):
    host, out = operated(name)
    twin = copy.deepcopy(host)
    assert same(twin(make_input(name)), out)
    for item in inserted(twin):
        nn.init.zeros_(item.module.gate)
    assert not same(twin(make_input(name)), out)
    assert same(host(make_input(name)), out)


@hosts
def test_torch_save_and_load(name):
    host, out = operated(name)
    file = io.BytesIO()
    torch.save(host, file)
    file.seek(0)
    assert same(torch.load(file, weights_only=False)(make_input(name)), out)


@positions
def test_pickle_copy_and_save_at_every_position(position):
    host, out = operated_conv(position)
    x = make_input("resnet")
    assert same(pickle.loads(pickle.dumps(host))(x), out)
    twin = copy.deepcopy(host)
    assert same(twin(x), out)
    nn.init.zeros_(inserted(twin)[0].block.excite.weight)
    assert not same(twin(x), out)
    assert same(host(x), out)


@pytest.mark.slow
def test_a_host_unpickled_in_another_process_takes_further_hooks(tmp_path):
    host, out = operated("resnet")
    torch.save(host, tmp_path / "host.pt")
    script = """
import sys, torch
host = torch.load(sys.argv[1], weights_only=False)
x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
for module in host.modules():
    for _ in range(3):
        module.register_forward_hook(lambda *_: None)
torch.save(host(x), sys.argv[2])
"""
    paths = [str(tmp_path / "host.pt"), str(tmp_path / "out.pt")]
    folder = Path(__file__).parent
    subprocess.run([sys.executable, "-c", script, *paths], check=True, cwd=folder, env={"PYTHONPATH": str(folder)})
    torch.testing.assert_close(torch.load(paths[1]), out)


@hosts
def test_compile_in_one_graph(name):
    host, out = operated(name)
    compiled = torch.compile(host, fullgraph=True, backend="eager")
    for a, b in zip(tensors(compiled(make_input(name))), tensors(out), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.slow
@positions
def test_compile_in_one_graph_at_every_position(position):
    host, out = operated_conv(position)
    torch.testing.assert_close(torch.compile(host, fullgraph=True, backend="aot_eager")(make_input("resnet")), out)


def test_a_compiled_host_sees_that_blocks_are_switched_off():
    host, out = operated("resnet")
    plain = make_host("resnet")(make_input("resnet"))
    compiled = torch.compile(host, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(make_input("resnet")), out)
    for item in inserted(host):
        item.module.enabled = False
    torch.testing.assert_close(compiled(make_input("resnet")), plain)


@hosts
def test_export(name):
    host, out = operated(name)
    exported = torch.export.export(host, (make_input(name),))
    for a, b in zip(tensors(exported.module()(make_input(name))), tensors(out), strict=True):
        torch.testing.assert_close(a, b)


@positions
def test_export_at_every_position(position):
    host, out = operated_conv(position)
    torch.testing.assert_close(torch.export.export(host, (make_input("resnet"),)).module()(make_input("resnet")), out)


@hosts
def test_an_average_of_weights_follows(name):
    host, out = operated(name)
    average = torch.optim.swa_utils.AveragedModel(host)
    average.update_parameters(host)
    assert same(average(make_input(name)), out)
    assert [item.key for item in inserted(average)] == [f"module.{item.key}" for item in inserted(host)]


@hosts
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_type_follows_the_host(name, dtype):
    host, _ = operated(name)
    out = host.to(dtype)(make_input(name).to(dtype))
    assert {t.dtype for t in tensors(out)} == {dtype}


def test_a_block_inserted_into_a_half_host_is_half():
    host = make_host("resnet").half()
    put(host, "resnet", identity=True)
    assert {p.dtype for item in inserted(host) for p in item.module.parameters()} == {torch.float16}


def test_a_host_on_the_meta_device_is_filled_by_assignment():
    _, out = operated("resnet")
    with torch.device("meta"):
        empty = HOSTS["resnet"]()
    put(empty, "resnet", identity=True, make=lambda site: gate(site).to("meta"))
    full, _ = operated("resnet")
    empty.load_state_dict(full.state_dict(), assign=True)
    assert same(empty.eval()(make_input("resnet")), out)


@hosts
def test_train_and_eval_reach_the_blocks(name):
    host, _ = operated(name)
    assert all(not item.module.training for item in inserted(host))
    host.train()
    assert all(item.block.training for item in inserted(host))


def test_a_trained_flag_of_the_site_is_taken_over():
    host = make_host("resnet").train()
    put(host, "resnet")
    assert all(item.block.training for item in inserted(host))


@hosts
def test_a_train_step_moves_host_and_blocks(name):
    host, _ = operated(name)
    host.train()
    before = {key: value.detach().clone() for key, value in host.named_parameters()}
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
    sum(t.square().mean() for t in tensors(host(torch.randn(INPUTS[name])))).backward()
    optimizer.step()
    moved = {key for key, value in host.named_parameters() if not torch.equal(value, before[key])}
    assert any("attnzoo" in key for key in moved)
    assert any("attnzoo" not in key for key in moved)
