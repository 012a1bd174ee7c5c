import pytest
import torch

from attnzoo_sequence.decoders.luong_global import LuongGlobal
from attnzoo_sequence.decoders.luong_local_m import LuongLocalM
from attnzoo_sequence.decoders.luong_local_p import LuongLocalP

SCORES = ["dot", "general", "concat"]


def states():
    torch.manual_seed(0)
    return torch.randn(2, 5, 4).double(), torch.randn(2, 7, 4).double(), torch.tensor([7, 5])


def lively(block):
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    return block.double()


def score(block, h, source):
    if block.score == "dot":
        return h @ source
    turned = block.score_matrix.weight @ h
    return turned @ source if block.score == "general" else block.score_vector.weight[0] @ torch.tanh(source + turned)


def joined(block, h, context):
    return torch.tanh(block.output.weight @ torch.cat([context, h]))


@pytest.mark.parametrize("name", SCORES)
def test_global_is_the_formula(name):
    query, key, _ = states()
    block = lively(LuongGlobal(4, score=name))
    found = block(query, key)
    for n in range(2):
        for t in range(5):
            weights = torch.stack([score(block, query[n, t], s) for s in key[n]]).softmax(0)
            torch.testing.assert_close(found[n, t], joined(block, query[n, t], weights @ key[n]))


@pytest.mark.parametrize("name", SCORES)
def test_local_m_is_the_formula(name):
    query, key, lengths = states()
    block = lively(LuongLocalM(4, score=name, half_window=1))
    found = block(query, key, lengths)
    for n in range(2):
        words = int(lengths[n]) - 1
        for t in range(5):
            centre = min(t, words - 1)
            window = [s for s in range(centre - 1, centre + 2) if 0 <= s < words]
            weights = torch.stack([score(block, query[n, t], key[n, s]) for s in window]).softmax(0)
            torch.testing.assert_close(found[n, t], joined(block, query[n, t], weights @ key[n, window]))


def test_local_m_goes_step_by_step():
    query, key, lengths = states()
    block = lively(LuongLocalM(4, half_window=1))
    steps = [block(query[:, t : t + 1], key, lengths, first_step=t) for t in range(5)]
    torch.testing.assert_close(torch.cat(steps, 1), block(query, key, lengths))


@pytest.mark.parametrize("name", SCORES)
def test_local_p_is_the_formula(name):
    query, key, lengths = states()
    block = lively(LuongLocalP(4, score=name, half_window=2))
    found = block(query, key, lengths)
    for n in range(2):
        words = int(lengths[n]) - 1
        for t in range(5):
            h = query[n, t]
            share = torch.sigmoid(block.position_vector.weight[0] @ torch.tanh(block.position_matrix.weight @ h))
            mu = words * share
            centre = int(mu.floor())
            window = [s for s in range(centre - 2, centre + 3) if 0 <= s < words]
            weights = torch.stack([score(block, h, key[n, s]) for s in window]).softmax(0)
            weights = weights * torch.exp(-((torch.tensor(window) - mu) ** 2) / 2)
            torch.testing.assert_close(found[n, t], joined(block, h, weights @ key[n, window]))


def test_an_unknown_score_is_refused():
    with pytest.raises(
        ValueError, match=r"^LuongGlobal: score='mlp' is not known; use one of 'dot', 'general', 'concat'$"
    ):
        LuongGlobal(4, score="mlp")
