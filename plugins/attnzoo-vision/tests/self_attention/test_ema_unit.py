"""Expectation-maximisation attention: the formula written out, the missing gradient, the moving bases."""

import pytest
import torch

from attnzoo_vision.self_attention.ema_unit import EMAUnit


@pytest.mark.parametrize("training", [False, True])
def test_the_map_is_rebuilt_from_the_bases(training):
    torch.manual_seed(0)
    block = EMAUnit(6, num_bases=3, iterations=2).double().train(training)
    x_nchw = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    map_ncl = (x_nchw.flatten(2).mT @ block.embed_weight.T + block.embed_bias).mT
    mu_nck = block.bases.expand(2, -1, -1)
    for _ in range(2):
        z_nlk = torch.softmax(map_ncl.mT @ mu_nck, dim=2)
        mu_nck = map_ncl @ (z_nlk / (1e-6 + z_nlk.sum(1, keepdim=True)))
        mu_nck = mu_nck / (1e-6 + mu_nck.norm(dim=1, keepdim=True))
    rebuilt = torch.relu(mu_nck @ z_nlk.mT).mT
    y_nchw = block.out(rebuilt).mT.reshape(x_nchw.shape)
    y_nchw = torch.batch_norm(
        y_nchw,
        None,
        None,
        None if training else torch.zeros(6).double(),
        None if training else torch.ones(6).double(),
        training,
        0.1,
        1e-5,
        False,
    )
    torch.testing.assert_close(block(x_nchw), torch.relu(x_nchw + y_nchw))
    torch.testing.assert_close(block.attention(x_nchw)["bases"], mu_nck)


def test_the_input_has_a_gradient_through_the_sum_alone():
    block = EMAUnit(4, num_bases=2)
    x_nchw = torch.randn(2, 4, 3, 3, requires_grad=True)
    y_nchw = block(x_nchw)
    y_nchw.sum().backward()
    torch.testing.assert_close(x_nchw.grad, (y_nchw > 0).float())
    assert "embed_weight" not in dict(block.named_parameters())


def test_the_bases_move_by_one_minus_momentum():
    block = EMAUnit(4, num_bases=2)
    before = block.bases.clone()
    block.update_bases(torch.ones(3, 4, 2))
    torch.testing.assert_close(block.bases, 0.9 * before + 0.1)


def test_no_basis_is_refused():
    with pytest.raises(ValueError, match="EMAUnit: num_bases=0 is below 1; use 1 or more"):
        EMAUnit(4, num_bases=0)
