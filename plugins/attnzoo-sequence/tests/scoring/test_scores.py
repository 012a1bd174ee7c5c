import torch

from attnzoo_sequence.scoring.additive_score import AdditiveScore
from attnzoo_sequence.scoring.bilinear_score import BilinearScore
from attnzoo_sequence.scoring.dot_score import DotScore


def test_additive_is_the_formula():
    torch.manual_seed(0)
    score = AdditiveScore(4, key_dim=3, hidden_dim=5, bias=True).double()
    for parameter in score.parameters():
        torch.nn.init.normal_(parameter)
    query, key = torch.randn(1, 2, 4).double(), torch.randn(1, 3, 3).double()
    found = score(query, key)
    for i in range(2):
        for j in range(3):
            hidden = torch.tanh(score.query.weight @ query[0, i] + score.query.bias + score.key.weight @ key[0, j])
            torch.testing.assert_close(found[0, i, j], score.vector.weight[0] @ hidden)


def test_additive_starts_with_equal_scores():
    assert not AdditiveScore(4)(torch.randn(1, 2, 4), torch.randn(1, 3, 4)).any()


def test_dot_and_bilinear_are_the_formulas():
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 4).double(), torch.randn(2, 5, 4).double()
    dots = torch.einsum("nid,njd->nij", query, key)
    torch.testing.assert_close(DotScore()(query, key), dots)
    torch.testing.assert_close(DotScore(scaled=True)(query, key), dots / 2)
    bilinear = BilinearScore(4).double()
    torch.testing.assert_close(bilinear(query, key), torch.einsum("nid,de,nje->nij", query, bilinear.weight, key))
