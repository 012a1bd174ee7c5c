"""After the insertion: list, switch, remove, swap, train."""

import copy
import re

import pytest
import torch
from hosts import HOSTS, make_host, make_input, same, tensors
from hosts.blocks import Add, Gate, Narrow, gate, put
from torch import nn

from attnzoo.errors import NameNotFound, SurgeryError
from attnzoo.surgery import (
    Order,
    disable,
    disabled,
    enable,
    insert,
    inserted,
    parameter_groups,
    remove,
    swap,
    train_only_inserted,
)

hosts = pytest.mark.parametrize("name", HOSTS)


def anatomy(host):
    """Return everything that removal must restore: attributes, hooks, children and tensors."""
    return {
        name: (type(module), {k: list(v) if isinstance(v, dict) else v for k, v in vars(module).items()})
        for name, module in host.named_modules()
    }, {key: value.requires_grad for key, value in host.named_parameters()}


def test_inserted_lists_keys_blocks_and_state():
    host = make_host("resnet")
    assert inserted(host) == []
    put(host, "resnet")
    assert [item.key for item in inserted(host)] == ["layer1.1/gate", "layer2.1/gate"]
    assert [type(item.block) for item in inserted(host, "layer2.*")] == [Gate]
    assert [item.key for item in inserted(host, "**/gate")] == ["layer1.1/gate", "layer2.1/gate"]
    assert inserted(host)[0].enabled
    host.layer1[1]._forward_hooks.clear()
    assert [item.linked for item in inserted(host)] == [False, True]


@hosts
@pytest.mark.parametrize("identity", [False, True])
def test_a_host_is_as_before_when_the_blocks_are_removed(name, identity):
    host, plain, x = make_host(name), make_host(name), make_input(name)
    old = plain(x)
    host(x)
    before = anatomy(host)
    put(host, name, identity=identity)
    host(x)
    blocks = remove(host)
    assert [type(block) for block in blocks] == [Gate] * len(blocks)
    assert str(anatomy(host)) == str(before)
    assert same(host(x), old)
    assert inserted(host) == []


@pytest.mark.parametrize("position", ["before", "after", "replace"])
def test_removal_at_every_position_also_from_a_copy(position):
    host, x = make_host("resnet"), make_input("resnet")
    before, old = anatomy(host), host(x)
    insert(host, Order(gate, "layer1.*.conv2", position))
    twin = copy.deepcopy(host)
    for one in (host, twin):
        assert not same(one(x), old)
        remove(one)
        assert str(anatomy(one)) == str(before)
        assert same(one(x), old)


@hosts
def test_disabled_blocks_do_not_run(name):
    host, x = make_host(name), make_input(name)
    old = host(x)
    put(host, name)
    new = host(x)
    with disabled(host):
        assert same(host(x), old)
    assert same(host(x), new)
    disable(host)
    assert same(host(x), old)
    with disabled(host):
        pass
    assert same(host(x), old)
    enable(host)
    assert same(host(x), new)


def test_a_replaced_module_runs_while_its_block_is_disabled():
    host, x = make_host("resnet"), make_input("resnet")
    old = host(x)
    insert(host, Order(gate, "layer1.*.conv2", "replace"))
    with disabled(host, "layer1.*.conv2"):
        assert same(host(x), old)
    assert not same(host(x), old)


def test_only_the_named_blocks_are_switched_and_removed():
    host = make_host("resnet")
    put(host, "resnet")
    disable(host, "layer1.*")
    assert [item.enabled for item in inserted(host)] == [False, True]
    remove(host, "layer1.1/gate")
    assert [item.key for item in inserted(host)] == ["layer2.1/gate"]


def test_a_name_without_a_block_is_an_error_with_near_matches():
    host = make_host("resnet")
    with pytest.raises(NameNotFound, match=r"at 'fc': no inserted block of ResNet is there; nothing is inserted in it"):
        remove(host, "fc")
    put(host, "resnet")
    text = "at 'layer1.2': no inserted block of ResNet is there; did you mean 'layer1.1' or 'layer2.1'"
    with pytest.raises(NameNotFound, match=re.escape(text)):
        disable(host, "layer1.2")
    assert all(item.enabled for item in inserted(host))


def test_swap_keeps_place_and_turn():
    host, x = nn.Sequential(nn.Identity()), torch.zeros(1, 2, 3, 3)
    orders = [Order(Add(1.0), "0", name="a"), Order(Add(0.0, 10.0), "0", name="b"), Order(Add(2.0), "0", name="c")]
    insert(host, orders, inputs=x)
    (old,) = swap(host, Add(0.0, 100.0), at="0/b", name="new")
    assert old.factor == 10.0
    assert [item.key for item in inserted(host)] == ["0/a", "0/new", "0/c"]
    assert all(item.linked for item in inserted(host))
    assert host(x).unique().tolist() == [102.0]
    remove(host)
    assert host(x).unique().tolist() == [0.0]


@hosts
def test_swap_at_every_site_of_a_host(name):
    host, x = make_host(name), make_input(name)
    old = host(x)
    put(host, name, identity=True)
    swap(host, gate, at="**", name="second", identity=False)
    assert not same(host(x), old)
    swap(host, gate, at="**/second", identity=True)
    assert same(host(x), old)
    remove(host)
    assert same(host(x), old)


def test_swap_of_a_replacing_block():
    host, x = make_host("resnet"), make_input("resnet")
    old = host(x)
    insert(host, Order(gate, "layer1.*.conv2", "replace"))
    swap(host, lambda site: nn.Conv2d(site.channels, site.channels, 1), at="layer1.*.conv2", name="point")
    assert host.layer1[1].conv2.forward.__self__ is inserted(host)[1].module
    remove(host)
    assert same(host(x), old)
    assert host.layer1[1].conv2.weight.requires_grad


def test_a_swap_that_does_not_fit_changes_nothing():
    host, x = make_host("resnet"), make_input("resnet")
    put(host, "resnet")
    old = host(x)
    with pytest.raises(SurgeryError, match=r"site 'layer1\.1': Narrow gave shape \(1, 8, 112, 112\)"):
        swap(host, lambda site: Narrow(site.channels), at="**")
    assert same(host(x), old)


def test_training_only_the_blocks():
    host, x = make_host("resnet").train(), make_input("resnet")
    put(host, "resnet")
    groups = train_only_inserted(host, also=["fc.*"])
    assert [group["name"] for group in groups] == ["inserted", "host"]
    assert groups[1]["params"] == list(host.fc.parameters())
    before = {key: value.clone() for key, value in host.named_parameters()}
    optimizer = torch.optim.SGD(groups, lr=0.1)
    sum(t.square().mean() for t in tensors(host(x))).backward()
    optimizer.step()
    moved = {key for key, value in host.named_parameters() if not torch.equal(value, before[key])}
    assert moved == {key for key in before if "attnzoo" in key or key.startswith("fc.")}


def test_parameter_groups_part_host_and_blocks():
    host = make_host("vit")
    own = list(host.parameters())
    put(host, "vit", identity=True)
    groups = parameter_groups(host, lr=1e-3)
    assert [set(map(id, group["params"])) for group in groups] == [
        set(map(id, own)),
        {id(p) for item in inserted(host) for p in item.module.parameters()},
    ]
    assert groups[1]["lr"] == 1e-3
