import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.channel.effective_se import EffectiveSE


def test_output_is_the_formula_of_the_authors():
    torch.manual_seed(0)
    block = EffectiveSE(6, max_pool=True).double()
    x = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    pooled = (x.mean((2, 3)) + x.amax((2, 3))) / 2
    weight = F.relu6(pooled @ block.mix.weight.T + block.mix.bias + 3) / 6
    torch.testing.assert_close(block(x), x * weight[:, :, None, None])


def test_a_new_block_is_drawn_as_the_network_of_the_authors():
    torch.manual_seed(0)
    block = EffectiveSE(256)
    assert block.mix.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert 0.9 / 16 < block.mix.bias.abs().max().item() <= 1 / 16
