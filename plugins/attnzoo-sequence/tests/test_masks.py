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
OF_OTHER_LENGTH = ("pma", "slot-attention", "gated-mil-attention", "han-attention")
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


def refused(shape, expected):
    """Return the whole message for a mask of this shape, as a pattern."""
    advice = "give one row for each sample, with True for each key that may be attended"
    return "^" + re.escape(f"attention: a mask of shape {shape}, expected {expected}; {advice}") + "$"


@pytest.mark.parametrize("shape", [(2, 5), (2, 9), (2, 1), (3, 7), (7,), (2, 7, 1), (2, 1, 7)])
@pytest.mark.parametrize("name", TOKENS | BY_HEADS)
def test_a_mask_of_another_shape_is_refused(name, shape):
    block, inputs, mask = given(name, torch.ones(shape, dtype=torch.bool))
    with pytest.raises(ValueError, match=refused(shape, (2, LENGTH))):
        block(*inputs, **mask)


@pytest.mark.parametrize("name", TOKENS | BY_HEADS)
def test_one_row_serves_all_samples(name):
    row = torch.arange(LENGTH) < LENGTH - 2
    block, inputs, mask = given(name, row[None])
    noise = {"noise_nsc": torch.randn(2, 7, 16)} if name == "slot-attention" else {}
    every = dict.fromkeys(mask, row.expand(2, -1))
    torch.testing.assert_close(block(*inputs, **mask, **noise), block(*inputs, **every, **noise))


@pytest.mark.parametrize("shape", [(7, 5), (1, 7, 9), (3, 7, 7), (2, 3, 7, 7), (7,)])
def test_a_mask_of_pairs_of_another_shape_is_refused(shape):
    block, inputs, _ = given("multi-head-attention", None)
    expected = {3: (2, 7, 7), 4: (2, 4, 7, 7)}.get(len(shape), (7, 7))
    advice = "give a row for each query, with True for each key that it may attend to"
    message = f"attention: a mask of shape {shape}, expected {expected}; {advice}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        block(*inputs, attn_mask=torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize("name", ["bahdanau-decoder", "luong-global", "luong-local-m", "luong-local-p", "perceiver"])
def test_a_source_mask_of_another_shape_is_refused(name):
    arguments = {
        "bahdanau-decoder": {"embed_dim": 16, "hidden_dim": 8},
        "perceiver": {"embed_dim": 16, "source_dim": 16},
    }
    block = attnzoo.create({"perceiver": "perceiver-cross-attention"}.get(name, name), **arguments.get(name, WIDTH))
    inputs = [torch.randn(2, 3, 16), torch.randn(2, LENGTH, 16)]
    if name == "bahdanau-decoder":
        inputs.insert(1, torch.zeros(2, 8))
    if name.startswith("luong-local"):
        inputs.append(torch.full((2,), LENGTH))
    with pytest.raises(ValueError, match=refused((2, 5), (2, LENGTH))):
        block(*inputs, torch.ones(2, 5, dtype=torch.bool))


@pytest.mark.parametrize("name", ["graph-attention", "graph-attention-v2"])
def test_edges_of_another_number_of_nodes_are_refused(name):
    with pytest.raises(ValueError, match=re.escape("a mask of shape (2, 7, 5), expected (2, 7, 7); give a row")):
        attnzoo.create(name, **WIDTH)(torch.randn(2, LENGTH, 16), torch.ones(2, LENGTH, 5, dtype=torch.bool))


@pytest.mark.parametrize("name", TOKENS | BY_HEADS)
@pytest.mark.parametrize(("samples", "length"), [(2, 0), (0, LENGTH)])
def test_nothing_to_read_gives_outputs_of_that_size(name, samples, length):
    block, inputs, _ = given(name, None)
    axis = 2 if name in BY_HEADS else 1
    output = block(*(x[:samples].narrow(axis, 0, length) for x in inputs))
    assert output.shape[0] == samples
    if name not in OF_OTHER_LENGTH:
        assert output.shape[axis] == length
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("samples", [0, 2])
def test_longformer_refuses_masks_of_another_length_and_takes_nothing(samples):
    block = attnzoo.create("longformer-attention", **WIDE, window_size=2)
    nothing = torch.zeros(samples, 0 if samples else LENGTH, dtype=torch.bool)
    x = torch.randn(*nothing.shape, 16)
    assert block(x, nothing).shape == x.shape
    with pytest.raises(ValueError, match=refused((2, 5), (2, LENGTH))):
        block(torch.randn(2, LENGTH, 16), torch.zeros(2, 5, dtype=torch.bool))


@pytest.mark.parametrize("score", ["soft-attention", "hard-attention"])
def test_queries_without_keys_read_zeros_and_masks_of_another_length_are_refused(score):
    block = attnzoo.create(score, query_dim=8).eval()
    read = block(torch.randn(2, 3, 8), torch.randn(2, 0, 8))
    read = read[0] if isinstance(read, tuple) else read
    assert torch.equal(read, torch.zeros(2, 3, 8))
    with pytest.raises(ValueError, match=refused((2, 5), (2, 7))):
        block(torch.randn(2, 3, 8), torch.randn(2, 7, 8), mask_nm=torch.ones(2, 5, dtype=torch.bool))


@pytest.mark.parametrize("name", ["delta-rule", "gated-delta-rule", "gated-linear-attention"])
def test_a_state_is_what_it_was_after_no_tokens(name):
    block, vectors = attnzoo.create(name), torch.randn(2, 3, 0, 8)
    gates = {"delta-rule": [(2, 3, 0)], "gated-delta-rule": [(2, 3, 0)] * 2, "gated-linear-attention": [(2, 3, 0, 8)]}
    output = block(vectors, vectors, vectors, *(torch.zeros(size) for size in gates[name]))
    output = output[0] if isinstance(output, tuple) else output
    assert output.shape == vectors.shape
