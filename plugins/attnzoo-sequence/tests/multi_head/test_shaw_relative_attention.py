import pytest
import torch

from attnzoo_sequence.multi_head.shaw_relative_attention import ShawRelativeAttention


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_the_formula(causal):
    torch.manual_seed(0)
    block = ShawRelativeAttention(8, 2, max_relative_position=2, causal=causal).double()
    x = torch.randn(2, 6, 8).double()
    q, k, v = (t.unflatten(-1, (2, 4)) for t in block.in_proj(x).chunk(3, -1))
    row = torch.tensor([[min(max(j - i, -2), 2) + 2 for j in range(6)] for i in range(6)])
    keys = k[:, None] + block.relative_keys.weight[row][None, :, :, None]
    values = v[:, None] + block.relative_values.weight[row][None, :, :, None]
    score = torch.einsum("nihd,nijhd->nhij", q, keys) / 2
    if causal:
        score = score.masked_fill(~torch.ones(6, 6).tril().bool(), -torch.inf)
    read = torch.einsum("nhij,nijhd->nihd", score.softmax(-1), values).flatten(2)
    torch.testing.assert_close(block(x), block.output(read))
