"""No causal block lets an earlier output know a later token, neither in its value nor in its gradient."""

import pytest
import torch
from torch.nn.functional import normalize

import attnzoo

LENGTH, CUT = 12, 7
WIDE = {"embed_dim": 16, "num_heads": 4}
LATENT = {**WIDE, "query_rank": 12, "kv_rank": 8, "head_dims": [4, 2, 4]}
TOKENS = {
    "multi-head-attention": {**WIDE, "causal": True},
    "grouped-query-attention": {**WIDE, "num_kv_heads": 2},
    "cached-attention": WIDE,
    "qk-norm-attention": WIDE,
    "sliding-window-attention": {**WIDE, "window_size": 3},
    "sink-attention": WIDE,
    "rotary-attention": {**WIDE, "causal": True},
    "alibi-attention": WIDE,
    "shaw-relative-attention": {**WIDE, "causal": True, "max_relative_position": 3},
    "talking-heads": {**WIDE, "causal": True},
    "t5-attention": {**WIDE, "causal": True, "bidirectional": False},
    "differential-attention": {**WIDE, "depth": 1},
    "multi-head-latent-attention": LATENT,
    "multi-head-latent-attention absorbed": {**LATENT, "absorbed": True},
    "aft-full": {"embed_dim": 16, "max_len": LENGTH, "causal": True},
    "aft-simple": {"embed_dim": 16, "causal": True},
    "aft-local": {"embed_dim": 16, "max_len": LENGTH, "window_size": 3, "causal": True},
}
BY_HEADS = {
    "attention-sink": {"num_heads": 2, "causal": True},
    "linear-attention": {"causal": True},
    "performer": {"head_dim": 8, "kernel": "relu", "causal": True},
    "gated-linear-attention": {},
    "delta-rule": {},
    "gated-delta-rule": {},
}


def inputs_by_heads(name):
    query, key, value = (torch.randn(1, 2, LENGTH, 8).double() for _ in range(3))
    if name == "gated-linear-attention":
        return [query, key, value, -torch.rand(1, 2, LENGTH, 8).double()]
    if "delta" in name:
        inputs = [query, normalize(key, dim=-1), value, torch.rand(1, 2, LENGTH).double()]
        return [*inputs, -torch.rand(1, 2, LENGTH).double()] if "gated" in name else inputs
    return [query, key, value]


def check_earlier_outputs(block, inputs, axis):
    """Change all inputs from ``CUT`` on and compare the outputs before it; then the same by gradients."""
    given = [x.requires_grad_() for x in inputs]
    output = first(block(*given))
    before = output.narrow(axis, 0, CUT)
    for gradient in torch.autograd.grad(before.sin().sum(), given):
        later = gradient.narrow(axis, CUT, LENGTH - CUT)
        torch.testing.assert_close(later, torch.zeros_like(later), rtol=0, atol=1e-12)
    changed = [torch.cat([x.narrow(axis, 0, CUT), x.narrow(axis, CUT, LENGTH - CUT) * 0.5], dim=axis) for x in given]
    other = first(block(*changed))
    torch.testing.assert_close(other.narrow(axis, 0, CUT), before, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(other.narrow(axis, CUT, LENGTH - CUT), output.narrow(axis, CUT, LENGTH - CUT))


def first(output):
    return output if isinstance(output, torch.Tensor) else output[0]


@pytest.mark.parametrize("name", TOKENS)
def test_a_later_token_changes_no_earlier_output(name):
    torch.manual_seed(0)
    block = attnzoo.create(name.split(" ")[0], **TOKENS[name]).double()
    check_earlier_outputs(block, [torch.randn(2, LENGTH, 16).double()], 1)


@pytest.mark.parametrize("name", BY_HEADS)
def test_later_queries_keys_and_values_change_no_earlier_output(name):
    torch.manual_seed(0)
    block = attnzoo.create(name, **BY_HEADS[name]).double()
    check_earlier_outputs(block, inputs_by_heads(name), 2)


@pytest.mark.parametrize("name", ["multi-head-attention", "rotary-attention", "alibi-attention", "sink-attention"])
def test_a_padding_mask_opens_no_way_back(name):
    torch.manual_seed(0)
    block = attnzoo.create(name, **TOKENS[name]).double()
    mask = torch.ones(2, LENGTH, dtype=torch.bool)
    mask[1, :2] = False
    named = {"mask_nm": mask} if name == "multi-head-attention" else {"mask_nl": mask}
    check_earlier_outputs(lambda x: block(x, **named), [torch.randn(2, LENGTH, 16).double()], 1)


def test_a_later_word_changes_no_earlier_state_of_the_decoder():
    torch.manual_seed(0)
    block = attnzoo.create("bahdanau-decoder", embed_dim=16, hidden_dim=8).double()
    key = torch.randn(2, 5, 16).double()
    check_earlier_outputs(lambda x: block(x, None, key), [torch.randn(2, LENGTH, 16).double()], 1)


def test_a_causal_reformer_gives_later_tokens_no_weight():
    torch.manual_seed(0)
    block = attnzoo.create("reformer-attention", **WIDE, num_buckets=4, chunk_size=4, causal=True)
    weight = block.attention(torch.randn(2, LENGTH, 16))["attention"]
    assert not weight.triu(1).any()
