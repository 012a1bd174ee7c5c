"""Costs: counted by dispatch, the fast path of MultiheadAttention included."""

import torch
from hosts import make_host, make_input, same
from hosts.blocks import order
from torch import nn

from attnzoo.surgery import insert, profile


def test_macs_of_a_convolution_and_of_attention():
    cost = profile(nn.Conv2d(3, 8, 3, padding=1), (1, 3, 16, 16), runs=0).whole
    assert (cost.parameters, cost.macs, cost.flops) == (224, 3 * 9 * 8 * 256, 2 * 3 * 9 * 8 * 256)
    attention = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    x = torch.randn(2, 10, 32)
    projections, products = 4 * 2 * 10 * 32 * 32, 2 * 2 * 10 * 10 * 32
    assert profile(attention, (x, x, x), runs=0).whole.macs == projections + products
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_host_is_measured_with_without_and_by_block():
    host, x = make_host("resnet"), make_input("resnet")
    insert(host, order("resnet"), inputs=x)
    old = host(x)
    result = profile(host, x, runs=2, warmup=1)
    assert result.bare is not None
    assert [cost.name for cost in result.blocks] == ["layer1.1/gate", "layer2.1/gate"]
    for kind in ("parameters", "flops"):
        added = sum(getattr(cost, kind) for cost in result.blocks)
        assert getattr(result.whole, kind) == getattr(result.bare, kind) + added
    assert result.whole.activation_bytes > result.bare.activation_bytes > 0
    assert all(cost.time is not None and cost.time.low <= cost.time.median for cost in (result.whole, *result.blocks))
    assert same(host(x), old)
    assert not host.training


def test_memory_is_what_is_kept_for_the_backward_pass():
    x = torch.randn(4, 100)
    assert profile(nn.Sigmoid(), x, runs=0).whole.activation_bytes == 4 * 100 * 4


def test_the_text_names_units():
    text = str(profile(nn.Linear(8, 8), (1, 4, 8), runs=0))
    assert text.splitlines()[0].startswith("Linear on cpu at input 1x4x8, ")
    assert "FLOPs are 2 x MACs of matrix products and convolutions" in text
    assert text.splitlines()[2].split() == ["Linear", "72", "256", "512", "128B", "-"]
