import math

import pytest
import torch

from attnzoo_sequence.multi_head.t5_attention import T5Attention


def bucket(distance, buckets, far, bidirectional):
    """The rule of the paper's code, one distance at a time."""
    first = 0
    if bidirectional:
        buckets //= 2
        first = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    grown = exact + int(math.log(distance / exact) / math.log(far / exact) * (buckets - exact))
    return first + min(grown, buckets - 1)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_it_is_the_formula(bidirectional):
    torch.manual_seed(0)
    block = T5Attention(
        8, 2, head_dim=3, num_buckets=8, max_distance=13, bidirectional=bidirectional, causal=not bidirectional
    ).double()
    x = torch.randn(2, 17, 8).double()
    q, k, v = (m(x).unflatten(-1, (2, 3)).transpose(1, 2) for m in (block.query, block.key, block.value))
    rows = torch.tensor([[bucket(j - i, 8, 13, bidirectional) for j in range(17)] for i in range(17)])
    bias = block.relative_bias.weight[rows].permute(2, 0, 1)
    score = q @ k.mT + bias
    if not bidirectional:
        score = score.masked_fill(~torch.ones(17, 17).tril().bool(), -torch.inf)
    wanted = block.output((score.softmax(-1) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(x), wanted)
    torch.testing.assert_close(block.attention(x)["bias"][0], bias)


def test_cross_attention_without_a_table_has_no_bias_map():
    block = T5Attention(8, 2, relative_bias=False)
    assert list(block.attention(torch.randn(1, 3, 8), torch.randn(1, 5, 8))) == ["attention"]


def test_too_few_buckets_are_refused():
    with pytest.raises(ValueError, match=r"^T5Attention: num_buckets=3, expected 4 or more$"):
        T5Attention(8, 2, num_buckets=3)
