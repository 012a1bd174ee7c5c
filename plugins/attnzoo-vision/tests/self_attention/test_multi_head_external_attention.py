"""Multi-head external attention: the formula written out head by head."""

import pytest
import torch

from attnzoo_vision.self_attention.multi_head_external_attention import MultiHeadExternalAttention


def test_all_heads_read_one_memory():
    torch.manual_seed(0)
    block = MultiHeadExternalAttention(6, num_heads=3, expansion=2, memory_size=4).double()
    x_nlc = torch.randn(2, 5, 6, dtype=torch.float64)
    heads = []
    for hidden_nld in block.expand(x_nlc).split(2, dim=2):
        weight_nls = torch.softmax(block.memory_key(hidden_nld), dim=1)
        heads.append(block.memory_value(weight_nls / (1e-9 + weight_nls.sum(2, keepdim=True))))
    torch.testing.assert_close(block(x_nlc), block.out(torch.cat(heads, dim=2)))


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(
        ValueError, match="MultiHeadExternalAttention: num_heads=4 does not divide embed_dim=6; use num_heads=3 or 6"
    ):
        MultiHeadExternalAttention(6, num_heads=4)
