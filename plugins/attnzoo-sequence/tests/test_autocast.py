"""Sums over many tokens under float16 autocast are those of full precision: products of them are not narrowed."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import attnzoo


def long_tokens() -> dict[str, Tensor]:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 1024, 16) + mean for mean in (4, 8, 8))
    log_decay = F.logsigmoid(torch.randn(1, 2, 1024, 16) + 5)
    return {"query": query, "key": key, "value": value, "beta": torch.rand(1, 2, 1024), "log_decay": log_decay}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("linear-attention", {"causal": False}),
        ("linear-attention", {"causal": True}),
        ("performer", {"head_dim": 16, "kernel": "softmax"}),
        ("performer", {"head_dim": 16, "kernel": "relu", "causal": True}),
        ("gated-linear-attention", {}),
        ("delta-rule", {}),
        ("gated-delta-rule", {}),
    ],
)
def test_long_sums_are_not_narrowed(name: str, options: dict[str, object]) -> None:
    block, tokens = attnzoo.create(name, **options), long_tokens()
    inputs = [tokens["query"], tokens["key"], tokens["value"]]
    if "delta" in name:
        inputs = [inputs[0], F.normalize(inputs[1], dim=-1), inputs[2], tokens["beta"]]
    if "gated" in name:
        inputs.append(tokens["log_decay"][..., 0] if "delta" in name else tokens["log_decay"])
    exact = block(*inputs)
    with torch.autocast("cpu", torch.float16):
        found = block(*inputs)
    torch.testing.assert_close(found, exact, rtol=5e-3, atol=5e-3)
