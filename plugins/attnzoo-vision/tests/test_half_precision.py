"""Large maps of large numbers in half precision: sums over their pixels do not overflow, quotients do not vanish."""

import copy

import pytest
import torch

import attnzoo

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
