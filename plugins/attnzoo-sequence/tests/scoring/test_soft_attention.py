import pytest
import torch

from attnzoo_sequence.scoring.soft_attention import SoftAttention


@pytest.mark.parametrize("score", ["scaled_dot", "dot", "bilinear", "additive"])
@pytest.mark.parametrize("plain", [True, False])
def test_it_reads_by_the_softmax_of_its_score(score, plain):
    torch.manual_seed(0)
    block = SoftAttention(4, score=score).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    query, key = torch.randn(2, 3, 4).double(), torch.randn(2, 5, 4).double()
    value = None if plain else torch.randn(2, 5, 7).double()
    mask = torch.tensor([[True, False, True, True, False], [False] * 5])
    weights = block.score(query, key).masked_fill(~mask[:, None], -torch.inf).softmax(-1).nan_to_num(0.0)
    torch.testing.assert_close(block(query, key, value, mask), weights @ (key if plain else value))
    torch.testing.assert_close(block.attention(query, key, value, mask)["attention"], weights)


def test_unequal_widths_are_refused_for_a_dot_product():
    message = r"^SoftAttention: key_dim=5 differs from query_dim=4; score='dot' needs equal widths$"
    with pytest.raises(ValueError, match=message):
        SoftAttention(4, score="dot", key_dim=5)
