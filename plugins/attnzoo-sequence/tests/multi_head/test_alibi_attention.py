import pytest
import torch

from attnzoo_sequence.multi_head import alibi_attention
from attnzoo_sequence.multi_head.alibi_attention import AlibiAttention, alibi_slopes


def test_slopes_are_those_of_the_paper():
    assert alibi_slopes(8) == [2.0**-h for h in range(1, 9)]
    wanted = [2**-2.0, 2**-4.0, 2**-6.0, 2**-8.0, 2**-1.0, 2**-3.0]
    assert alibi_slopes(6) == wanted


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rows", [3, 256])
def test_it_is_the_formula_also_a_few_rows_at_a_time(causal, rows, monkeypatch):
    monkeypatch.setattr(alibi_attention, "_ROWS", rows)
    torch.manual_seed(0)
    block = AlibiAttention(8, 2, causal=causal).double()
    x = torch.randn(2, 7, 8).double()
    mask = torch.rand(2, 7) > 0.3
    mask[:, 0] = True
    q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in block.in_proj(x).chunk(3, -1))
    distance = (torch.arange(7)[:, None] - torch.arange(7)).abs()
    score = q @ k.mT / 2 - torch.tensor([2**-4.0, 2**-8.0]).double()[:, None, None] * distance
    seen = mask[:, None, None] & (torch.ones(7, 7).tril().bool() if causal else torch.ones(7, 7).bool())
    read = score.masked_fill(~seen, -torch.inf).softmax(-1) @ v
    torch.testing.assert_close(block(x, mask), block.output(read.transpose(1, 2).flatten(2)))
