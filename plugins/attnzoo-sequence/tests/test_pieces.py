"""Long inputs are read in pieces of queries: the same numbers, and no tensor of all pairs."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import attnzoo
from attnzoo_sequence.multi_head import t5_attention
from attnzoo_sequence.ops import attend
from attnzoo_sequence.ops.attend import ROWS, merge_heads, split_heads

LENGTH = 2 * ROWS + 9
WIDE = {"embed_dim": 8, "num_heads": 2}


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that an operation returned."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return out


def with_mask(length):
    mask = torch.ones(2, length, dtype=torch.bool)
    mask[0, :3], mask[1, -ROWS:] = False, False
    return mask


def made(name, arguments):
    torch.manual_seed(0)
    return attnzoo.create(name, **arguments).double(), torch.randn(2, LENGTH, 8).double()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "relative_bias": False}])
def test_t5_in_pieces_reads_by_its_map(options, masked, monkeypatch):
    monkeypatch.setattr(t5_attention, "_ALL_PAIRS", 0)
    block, x = made("t5-attention", {**WIDE, **options})
    mask = with_mask(LENGTH) if masked else None
    read = block.attention(x, None, mask)["attention"] @ split_heads(block.value(x), 2)
    torch.testing.assert_close(block(x, None, mask), block.output(merge_heads(read)))


def test_t5_in_pieces_reads_from_another_sequence_by_its_map(monkeypatch):
    monkeypatch.setattr(t5_attention, "_ALL_PAIRS", 0)
    block, x = made("t5-attention", WIDE)
    key = torch.randn(2, 11, 8).double()
    read = block.attention(x, key)["attention"] @ split_heads(block.value(key), 2)
    torch.testing.assert_close(block(x, key), block.output(merge_heads(read)))


@pytest.mark.parametrize("masked", [False, True])
def test_causal_queries_in_pieces_read_by_their_map(masked):
    block, x = made("grouped-query-attention", WIDE)
    mask = with_mask(LENGTH) if masked else None
    read = block.attention(x, mask)["attention"] @ split_heads(block.value(x), 2)
    torch.testing.assert_close(block(x, mask), block.output(merge_heads(read)))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("absorbed", [False, True])
def test_latent_attention_in_pieces_reads_by_its_map(absorbed, masked):
    ranks = {"query_rank": 6, "kv_rank": 5, "head_dims": (3, 2, 4), "absorbed": absorbed}
    block, x = made("multi-head-latent-attention", {**WIDE, **ranks})
    mask = with_mask(LENGTH) if masked else None
    read = block.attention(x, mask)["attention"] @ block._expand(x)[2]
    torch.testing.assert_close(block(x, mask), block.out_proj(merge_heads(read)))


@pytest.mark.parametrize("masked", [False, True])
def test_differential_attention_in_pieces_reads_by_its_map(masked):
    block, x = made("differential-attention", {**WIDE, "depth": 1, "causal": True})
    mask = with_mask(LENGTH) if masked else None
    read = block.attention(x, mask)["attention"] @ split_heads(block.value(x), block.kv_heads)
    expected = block.out_proj(merge_heads(block.norm(read) * (1 - block.lambda_init)))
    torch.testing.assert_close(block(x, mask), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_sink_attention_in_pieces_reads_by_its_map(masked):
    block, x = made("sink-attention", WIDE)
    mask = with_mask(LENGTH) if masked else None
    value = block.project(x)[2]
    read = block.attention(x, mask)["attention"] @ value
    torch.testing.assert_close(block(x, mask), block.output(merge_heads(read)))


@pytest.mark.parametrize("name", ["differential-attention", "multi-head-latent-attention", "sink-attention"])
def test_a_padded_causal_pass_makes_no_tensor_of_all_pairs(name):
    ranks = {"query_rank": 6, "kv_rank": 5, "head_dims": (3, 2, 4)}
    options = {"multi-head-latent-attention": ranks, "differential-attention": {"depth": 1, "causal": True}}.get(
        name, {}
    )
    block = attnzoo.create(name, **WIDE, **options)
    largest = Largest()
    with torch.no_grad(), largest:
        block(torch.randn(2, 4 * ROWS, 8), with_mask(4 * ROWS))
    assert largest.numbers < (4 * ROWS) ** 2


@pytest.mark.parametrize("name", ["differential-attention", "multi-head-latent-attention", "sink-attention"])
def test_pieces_give_the_outputs_and_gradients_of_one_piece(name, monkeypatch):
    ranks = {"kv_rank": 5, "head_dims": (3, 2, 4)}
    options = {"multi-head-latent-attention": ranks, "differential-attention": {"depth": 1, "causal": True}}
    block, x = made(name, {**WIDE, **options.get(name, {})})
    x, mask = x.requires_grad_(), with_mask(LENGTH)
    mask[1] = False  # a sample without any key reads zeros

    def pass_both_ways():
        output = block(x, mask)
        return [output, *torch.autograd.grad(output.square().sum(), [x, *block.parameters()])]

    found = pass_both_ways()
    monkeypatch.setattr(attend, "ROWS", LENGTH)
    torch.testing.assert_close(found, pass_both_ways())
    assert not found[0][1].any()


@pytest.mark.parametrize("masked", [False, True])
def test_causal_multi_head_attention_in_pieces_reads_by_its_map(masked):
    block, x = made("multi-head-attention", {**WIDE, "causal": True})
    key = torch.randn(2, LENGTH + 5, 8).double()
    mask = with_mask(LENGTH + 5) if masked else None
    read = block.attention(x, key, mask_nm=mask)["attention"] @ block._project(x, key, None)[2]
    torch.testing.assert_close(block(x, key, mask_nm=mask), block.output(merge_heads(read)))
