import pytest
import torch

from attnzoo_sequence.scoring.hard_attention import HardAttention, moving_baseline, reinforce_loss

RULES = ["argmax", "straight_through", "gumbel", "reinforce"]


def inputs():
    torch.manual_seed(0)
    return torch.randn(2, 3, 4).double(), torch.randn(2, 5, 4).double(), torch.randn(2, 5, 6).double()


@pytest.mark.parametrize("rule", RULES)
def test_evaluation_reads_the_value_of_the_highest_score(rule):
    query, key, value = inputs()
    block = HardAttention(4, rule=rule).double().eval()
    read, log_prob = block(query, key, value)
    best = (query @ key.mT).argmax(-1)
    torch.testing.assert_close(read, torch.stack([v[b] for v, b in zip(value, best, strict=True)]))
    log_probs = (query @ key.mT / 2).log_softmax(-1)
    torch.testing.assert_close(log_prob, log_probs.amax(-1))


@pytest.mark.parametrize("rule", ["gumbel", "reinforce"])
def test_a_generator_seeds_what_is_drawn(rule):
    query, key, value = inputs()
    block = HardAttention(4, rule=rule, temperature=2.0).double().train()
    draws = [block(query, key, value, generator=torch.Generator().manual_seed(s))[0] for s in (1, 1, 2, 3, 4)]
    torch.testing.assert_close(draws[0], draws[1])
    assert any(not torch.equal(draws[0], d) for d in draws[2:])


@pytest.mark.parametrize("rule", ["gumbel", "reinforce"])
def test_draws_follow_the_probabilities(rule):
    query, key = torch.tensor([[[1.0]]]).expand(1, 20000, 1), torch.tensor([[[0.0], [1.0], [2.0]]])
    block = HardAttention(1, rule=rule, score="dot").train()
    read, _ = block(query, key, torch.eye(3)[None], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(read.mean(1)[0], torch.tensor([0.0, 1.0, 2.0]).softmax(0), atol=0.01, rtol=0)


def test_straight_through_has_the_gradient_of_the_soft_reading():
    query, key, value = inputs()
    query.requires_grad_()
    block = HardAttention(4, temperature=0.7).double().train()
    read, _ = block(query, key, value)
    (found,) = torch.autograd.grad((read * 3).sum(), query)
    soft = (query @ key.mT / 2 / 0.7).softmax(-1) @ value
    (wanted,) = torch.autograd.grad((soft * 3).sum(), query)
    torch.testing.assert_close(found, wanted)


def test_reinforce_is_unbiased_and_the_baseline_changes_nothing_but_variance():
    key = torch.tensor([[[0.3], [-0.5], [1.0]]])
    cost = torch.tensor([1.0, 5.0, 2.0])
    query = torch.ones(1, 1, 1, requires_grad=True)
    (exact,) = torch.autograd.grad(((query @ key.mT).softmax(-1) @ cost).sum(), query)
    block = HardAttention(1, rule="reinforce", score="dot").train()
    many = query.expand(50000, 1, 1)
    read, log_prob = block(many, key, torch.eye(3)[None], generator=torch.Generator().manual_seed(0))
    for baseline in (0.0, 2.5):
        loss = reinforce_loss(log_prob, (read @ cost).squeeze(-1), baseline)
        (found,) = torch.autograd.grad(loss, query, retain_graph=True)
        torch.testing.assert_close(found, exact, atol=0.03, rtol=0)


def test_nothing_is_read_where_nothing_may_be_chosen():
    query, key, value = inputs()
    mask = torch.tensor([[True, False, True, True, False], [False] * 5])
    for rule in RULES:
        block = HardAttention(4, rule=rule).double().train()
        read, log_prob = block(query, key, value, mask)
        assert not read[1].any()
        assert not log_prob[1].any()


def test_the_baseline_moves():
    torch.testing.assert_close(moving_baseline(torch.tensor(1.0), torch.tensor([2.0, 4.0])), torch.tensor(1.2))


def test_an_unknown_rule_is_refused():
    message = (
        r"^HardAttention: rule='soft' is not known; use one of 'argmax', 'straight_through', 'gumbel', 'reinforce'$"
    )
    with pytest.raises(ValueError, match=message):
        HardAttention(4, rule="soft")
