"""Masks: rows without anything to attend to are finite in value and gradient; masks of numbers are refused."""

import re

import pytest
import torch

import attnzoo

LENGTH = 7
WIDE = {"embed_dim": 16, "num_heads": 4}
WIDTH = {"embed_dim": 16}
LONG = {**WIDTH, "max_len": LENGTH}
TOKENS = {
    "multi-head-attention": WIDE,
    "vit-attention": WIDE,
    "grouped-query-attention": WIDE,
    "qk-norm-attention": WIDE,
    "sliding-window-attention": {**WIDE, "window_size": 3},
    "sink-attention": WIDE,
    "rotary-attention": WIDE,
    "alibi-attention": WIDE,
    "shaw-relative-attention": WIDE,
    "talking-heads": {**WIDE, "talk_bias": True},
    "t5-attention": WIDE,
    "differential-attention": {**WIDE, "depth": 1},
    "multi-head-latent-attention": {**WIDE, "kv_rank": 8, "head_dims": [4, 2, 4]},
    "linformer": {**WIDE, **LONG, "compressed_len": 4},
    "nystrom-attention": {**WIDE, "num_landmarks": 4, "conv_kernel_size": 3},
    "reformer-attention": {**WIDE, "num_buckets": 4, "chunk_size": 4},
    "bigbird-attention": {**WIDE, "block_size": 2},
    "aft-full": LONG,
    "aft-full causal": {**LONG, "causal": True},
    "aft-simple": WIDTH,
    "aft-simple causal": {**WIDTH, "causal": True},
    "aft-local": {**LONG, "window_size": 3},
    "aft-conv": WIDE,
    "sab": WIDE,
    "isab": WIDE,
    "pma": WIDE,
    "slot-attention": WIDTH,
    "gated-mil-attention": WIDTH,
    "han-attention": WIDTH,
}
BY_HEADS = {
    "attention-sink": {"num_heads": 4},
    "linear-attention": {},
    "linear-attention causal": {"causal": True},
    "performer": {"head_dim": 8},
    "performer causal": {"head_dim": 8, "causal": True},
    "performer of relu": {"head_dim": 8, "causal": True, "kernel": "relu"},
}
MASKS = {"nothing": [[False] * LENGTH] * 2, "one": [[True] * LENGTH, [False] * LENGTH]}


def given(name, mask):
    """Return the block, its inputs and the mask by its name."""
    torch.manual_seed(0)
    block = attnzoo.create(name.split(" ")[0], **(TOKENS | BY_HEADS)[name])
    if name in BY_HEADS:
        return block, [torch.randn(2, 4, LENGTH, 8, requires_grad=True) for _ in range(3)], {"mask_nm": mask}
    names = block.forward.__annotations__
    return (
        block,
        [torch.randn(2, LENGTH, 16, requires_grad=True)],
        {"mask_nm" if "mask_nm" in names else "mask_nl": mask},
    )


@pytest.mark.parametrize("hidden", MASKS)
@pytest.mark.parametrize("name", TOKENS | BY_HEADS)
def test_rows_without_anything_to_attend_to_are_finite_with_their_gradients(name, hidden):
    block, inputs, mask = given(name, torch.tensor(MASKS[hidden]))
    output = block(*inputs, **mask)
    (1e3 * output.square().sum() + 1e3 * output.sum()).backward()
    for tensor in (output, *(x.grad for x in inputs), *(p.grad for p in block.parameters() if p.grad is not None)):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("name", BY_HEADS)
def test_operators_read_zeros_where_nothing_is_visible(name):
    block, inputs, mask = given(name, torch.tensor(MASKS["one"]))
    output = block(*inputs, **mask)
    assert output[0].any()
    assert not output[1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
@pytest.mark.parametrize("name", ["multi-head-attention", "rotary-attention", "alibi-attention", "t5-attention", "sab"])
def test_a_mask_of_numbers_is_refused(name, dtype):
    block, inputs, mask = given(name, torch.ones(2, LENGTH, dtype=dtype))
    message = f"attention: a mask of {dtype}, expected torch.bool with True = may attend; give mask.bool()"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        block(*inputs, **mask)
