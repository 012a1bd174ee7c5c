"""Large maps of large numbers in half precision: sums over their pixels do not overflow, quotients do not vanish."""

import copy

import pytest
import torch

import attnzoo
from attnzoo_vision.ops.pairwise import dot_product, pairwise_relu_mean

BLOCKS = {
    "danet-channel-attention": {"channels": 8},
    "ema": {"channels": 16, "groups": 2},
    "external-attention": {"channels": 8, "memory_size": 4},
    "gct": {"channels": 8},
    "gsop-channel": {"channels": 8, "hidden_channels": 8},
    "gsop-position": {"channels": 8},
    "simam": {},
    "srm": {"channels": 8},
}


@pytest.mark.parametrize("autocast", [False, True], ids=["half", "autocast"])
@pytest.mark.parametrize("name", BLOCKS)
def test_numbers_are_those_of_full_precision(name, autocast):
    torch.manual_seed(0)
    block = attnzoo.create(name, **BLOCKS[name]).eval()
    for parameter in block.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    block.half().float()
    x = (4 * torch.randn(4, BLOCKS[name].get("channels", 8), 80, 80) + 4).half()
    exact = copy.deepcopy(block)(x.float())
    with torch.autocast("cpu", torch.float16, enabled=autocast):
        got = (block if autocast else block.half())(x)
    torch.testing.assert_close(got.float(), exact, rtol=0, atol=0.1 * exact.std().item())
    assert block.train()(x.to(next(block.parameters(), x).dtype)).isfinite().all()


@pytest.mark.parametrize("autocast", [False, True], ids=["half", "autocast"])
@pytest.mark.parametrize("pool_size", [1, 2])
@pytest.mark.parametrize("mode", ["dot_product", "concatenation"])
def test_sums_over_all_pairs_stay_in_range(mode, pool_size, autocast):
    torch.manual_seed(0)
    block = attnzoo.create("non-local", channels=8, mode=mode, norm="layer", pool_size=pool_size).eval()
    for parameter in block.parameters():
        parameter.data.normal_(std=0.3)
    block.half().float()
    x = (2 * torch.randn(1, 8, 64, 64) + 6).half()
    exact = copy.deepcopy(block)(x.float())
    with torch.autocast("cpu", torch.float16, enabled=autocast):
        got = (block if autocast else block.half())(x)
    torch.testing.assert_close(got.float(), exact, rtol=0, atol=0.02 * exact.std().item())
    got.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in block.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("keys", [3, 4096])
def test_sums_over_all_pairs_are_those_of_full_precision(keys, dtype):
    torch.manual_seed(0)
    a, b, value = (
        8 * torch.randn(1, 50).to(dtype),
        8 * torch.randn(1, keys).to(dtype),
        20 + torch.randn(1, keys, 4).to(dtype),
    )
    key, query = (100 * torch.randn(1, length, 4).to(dtype) for length in (keys, 50))
    for function, factors in ((pairwise_relu_mean, (a, b, value)), (dot_product, (query / 1000, key, 30 * value))):
        exact = function(*(factor.double() for factor in factors)).to(dtype)
        found = function(*factors)
        assert found.dtype is dtype
        torch.testing.assert_close(found, exact, rtol=0.02, atol=0.02 * exact.std().item())


@pytest.mark.parametrize("autocast", [False, True], ids=["half", "autocast"])
def test_bases_that_no_pixel_belongs_to_stay_finite(autocast):
    torch.manual_seed(0)
    block = attnzoo.create("ema-unit", channels=16, num_bases=8).eval().half().float()
    x = (10 * torch.randn(1, 16, 1, 1) + 0.1 * torch.randn(1, 16, 32, 32)).half()
    exact = copy.deepcopy(block)(x.float())
    with torch.autocast("cpu", torch.float16, enabled=autocast):
        got = (block if autocast else block.half())(x)
    torch.testing.assert_close(got.float(), exact, rtol=0, atol=0.02 * exact.std().item())
