import pytest
import torch

from attnzoo_sequence.pooling.gated_mil_attention import GatedMILAttention


@pytest.mark.parametrize("gated", [False, True])
def test_equals_the_formula(gated: bool) -> None:
    torch.manual_seed(0)
    block = GatedMILAttention(6, hidden_channels=4, branches=2, gated=gated).double()
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    hidden = block.hidden(x).tanh()
    if block.gate is not None:
        hidden = hidden * block.gate(x).sigmoid()
    weight = block.score(hidden).softmax(dim=1)
    torch.testing.assert_close(block(x), torch.einsum("nmb,nmc->nbc", weight, x))


def test_an_empty_bag_gives_zeros_and_padding_takes_no_weight() -> None:
    torch.manual_seed(0)
    block = GatedMILAttention(6, hidden_channels=4)
    x = torch.randn(2, 5, 6)
    mask = torch.tensor([[True, True, True, False, False], [False] * 5])
    pooled = block(x, mask)
    torch.testing.assert_close(pooled[:1], block(x[:1, :3]))
    assert pooled[1].eq(0).all()
