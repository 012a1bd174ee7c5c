"""Inserting blocks: where they go, what they see, what is reported."""

import pytest
import torch
from hosts import HOSTS, SITES, make_host, make_input, same
from hosts.blocks import Add, Gate, TokenGate, gate, order, put, wake
from torch import nn

from attnzoo.surgery import Order, Site, insert, inserted

hosts = pytest.mark.parametrize("name", HOSTS)


class Two(nn.Module):
    """A host of two inputs, by position and by name, that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 1), nn.Linear(5, 4)

    def forward(self, image, *, vector):
        return self.left(image), self.right(vector)


@hosts
def test_the_block_runs_at_every_site(name):
    host, x = make_host(name), make_input(name)
    old = host(x)
    report = put(host, name)
    assert not same(host(x), old)
    assert [row.site for row in report.rows] == [item.module.place.site for item in inserted(host)]
    assert all(item.linked for item in inserted(host))


@hosts
def test_a_hook_and_a_call_by_hand_give_the_same(name):
    host, x = make_host(name), make_input(name)
    put(host, name)
    site = inserted(host)[-1]
    calls = []
    site.block.register_forward_hook(lambda _, args, out: calls.append((args[0], out)))
    host(x)
    assert torch.equal(site.block(calls[0][0]), calls[0][1])


def test_before_sees_the_input_and_after_the_output():
    host = make_host("resnet")
    report = insert(host, [Order(gate, "layer2.0", "before"), Order(gate, "layer2.0", "after", name="later")])
    assert [(row.position, row.channels) for row in report.rows] == [("before", 16), ("after", 32)]
    host(make_input("resnet"))


def test_blocks_at_one_site_run_in_the_order_given():
    host, x = nn.Sequential(nn.Identity()), torch.zeros(1, 2, 3, 3)
    orders = [Order(Add(1.0), "0", name="first"), Order(Add(0.0, 10.0), "0", name="second")]
    insert(host, orders, inputs=x)
    assert host(x).unique().tolist() == [10.0]


def test_replace_runs_the_block_instead_and_keeps_the_weights():
    host = make_host("resnet")
    keys = list(host.state_dict())
    insert(host, Order(lambda site: nn.Conv2d(16, 16, 1), "layer1.1.conv2", "replace", name="point"))
    ran = []
    nn.Conv2d.forward(host.layer1[1].conv2, torch.zeros(1, 16, 3, 3))
    host.layer1[1].conv2.register_forward_hook(lambda *_: ran.append(1))
    host(make_input("resnet"))
    assert ran == [1]
    assert [key for key in host.state_dict() if "attnzoo" not in key] == keys
    assert not host.layer1[1].conv2.weight.requires_grad


def test_a_sequential_site_works_though_it_iterates_over_its_children():
    host, x = make_host("resnet"), make_input("resnet")
    old = host.layer1(host.relu(host.bn1(host.conv1(x))))
    insert(host, Order(Add(1.0), "layer1"))
    torch.testing.assert_close(host.layer1(host.relu(host.bn1(host.conv1(x)))), old + 1)


def test_the_tensor_of_a_tuple_is_changed_and_the_rest_kept():
    host, x = make_host("vit"), make_input("vit")
    insert(host, Order(Add(1.0), "layers.1"))
    out = host.layers[1](hidden_states=torch.zeros(1, 17, 32))
    assert isinstance(out, tuple)
    assert out[1] is None
    host(x)


def test_an_input_by_name_is_changed():
    host = make_host("vit")
    insert(host, Order(TokenGate(32), "layers.0", "before"))
    assert inserted(host)[0].module.place.slot == (1, "hidden_states")
    host(make_input("vit"))


def test_a_host_of_several_inputs_is_probed_with_a_dict():
    host = Two()
    inputs = {"image": torch.randn(1, 3, 8, 8), "vector": torch.randn(1, 5)}
    report = insert(host, [Order(gate, "left"), Order(Add(1.0), "right")], inputs=inputs)
    assert [row.layout for row in report.rows] == ["nchw", "nc"]
    host(**inputs)


def test_inputs_may_be_a_shape():
    report = insert(make_host("detector"), order("detector"), inputs=(1, 3, 128, 96))
    assert report.rows[0].shape == (1, 16, 32, 24)


def test_a_ready_block_goes_to_one_site():
    host, block = make_host("unet"), Gate(32)
    insert(host, Order(block, "bottom"))
    assert inserted(host)[0].block is block


def test_a_factory_is_told_of_its_site():
    told: list[Site] = []

    def make(site: Site) -> nn.Module:
        told.append(site)
        return Gate(site.channels)

    insert(make_host("detector").double(), Order(make, SITES["detector"]), inputs=(1, 3, 64, 64))
    assert [(site.name, site.channels, site.layout) for site in told][:1] == [("stages.0.c2f", 16, "nchw")]
    assert told[0].dtype == torch.float64
    assert told[0].shape == (1, 16, 16, 16)


def test_class_tokens_pass_by_a_block_that_sees_a_map():
    host = make_host("vit")
    put(host, "vit")
    place = inserted(host)[0].module.place
    assert (place.view.prefix, place.view.height, place.view.width) == (1, 4, 4)
    x = torch.randn(2, 17, 32)
    y = inserted(host)[0].module(x)
    assert torch.equal(y[:, 0], x[:, 0])
    by_hand = inserted(host)[0].block(x[:, 1:].transpose(1, 2).unflatten(2, (4, 4)))
    torch.testing.assert_close(y[:, 1:], by_hand.flatten(2).transpose(1, 2))


def test_a_map_is_shown_as_tokens():
    host = make_host("unet")
    insert(host, Order(lambda site: TokenGate(site.channels), "bottom", view="tokens"))
    x = torch.randn(2, 32, 3, 5)
    by_hand = inserted(host)[0].block(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (3, 5))
    torch.testing.assert_close(inserted(host)[0].module(x), by_hand)


def test_a_host_of_channels_last_maps_is_seen_by_its_layers():
    class Swinish(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.norm, self.drop = nn.Conv2d(3, 12, 4, 4), nn.LayerNorm(12), nn.Identity()

        def forward(self, x):
            return self.drop(self.norm(self.patch(x).permute(0, 2, 3, 1)))

    report = insert(Swinish(), Order(gate, "drop", identity=True))
    assert (report.rows[0].layout, report.rows[0].channels) == ("nhwc->nchw", 12)


def test_the_report_names_sites_shapes_and_costs():
    host = make_host("resnet")
    report = insert(host, order("resnet", identity=True), inputs=(1, 3, 32, 32))
    assert str(report) == (
        "site      class       position  block            layout  shape       channels  parameters  FLOPs\n"
        "layer1.1  BasicBlock  after     gate (identity)  nchw    1x16x16x16  16        288         512\n"
        "layer2.1  BasicBlock  after     gate (identity)  nchw    1x32x8x8    32        1.09 k      2.05 k\n"
        "ResNet at fake input 1x3x32x32: 2 inserted, +1.38 k parameters (3.20 % of 43.1 k), "
        "+2.56 k FLOPs (0.03 % of 9.13 M)"
    )
    assert report.to_dict()["flops"] == 2560


def test_a_host_that_cannot_be_faked_is_run_on_a_small_real_input():
    class Peeks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            y = self.conv(x)
            return y if float(y.sum()) > 1e9 else -y

    report = insert(Peeks(), Order(gate, "conv"))
    assert not report.faked
    assert report.rows[0].channels == 8


@hosts
def test_probing_leaves_no_trace(name):
    host = make_host(name).train()
    before = {k: v.clone() for k, v in host.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    report = insert(host, Order(lambda _: Add(0.0), SITES[name]))
    assert torch.equal(torch.rand(3), expected)
    assert report.faked
    assert all(torch.equal(v, before[k]) for k, v in host.state_dict().items())
    assert all(module.training for module in host.modules())
    if name == "detector":
        assert type(host.head.anchors) is torch.Tensor
        assert host.head.shape is None


@hosts
def test_identity_changes_no_bit_at_first(name):
    host, x = make_host(name), make_input(name)
    old = host(x)
    put(host, name, identity=True)
    assert same(host(x), old)
    wake(host)
    assert not same(host(x), old)


@hosts
def test_gradients_reach_the_block_from_the_second_step_on(name):
    host, x = make_host(name).train(), make_input(name)
    put(host, name, identity=True)
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
    norms = []
    for _ in range(2):
        optimizer.zero_grad()
        out = host(x)
        sum(t.square().mean() for t in torch.utils._pytree.tree_leaves(out)).backward()
        norms.append([float(p.grad.norm()) for item in inserted(host) for p in item.block.parameters()])
        assert all(item.module.gate.grad.norm() > 0 for item in inserted(host))
        optimizer.step()
    assert not any(norms[0])
    assert all(norms[1])


def test_the_identity_gate_keeps_the_type_of_the_host():
    host = make_host("resnet").to(torch.bfloat16)
    x = make_input("resnet").to(torch.bfloat16)
    old = host(x)
    put(host, "resnet", identity=True)
    assert same(host(x), old)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = make_host("resnet")
        old = plain(make_input("resnet"))
        put(plain, "resnet", identity=True)
        assert same(plain(make_input("resnet")), old)


def test_channels_last_memory_is_kept():
    host = make_host("unet").to(memory_format=torch.channels_last)
    insert(host, order("unet", identity=True))
    x = torch.randn(2, 32, 4, 6).to(memory_format=torch.channels_last)
    assert inserted(host)[0].module(x).is_contiguous(memory_format=torch.channels_last)
