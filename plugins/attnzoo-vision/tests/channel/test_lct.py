import pytest
import torch

from attnzoo_vision.channel.lct import LCT


def test_output_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    block = LCT(6, groups=2).double()
    torch.nn.init.normal_(block.weight)
    x = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    means = x.mean((2, 3)).view(2, 2, 3)
    normal = (means - means.mean(2, keepdim=True)) / (means.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    weight = torch.sigmoid(normal.view(2, 6) * block.weight + block.bias)
    torch.testing.assert_close(block(x), x * weight[:, :, None, None])


def test_a_channel_that_is_a_group_of_its_own_is_scaled_by_its_bias_alone():
    block = LCT(4, groups=4)
    torch.nn.init.normal_(block.weight)
    torch.nn.init.normal_(block.bias)
    x = torch.randn(1, 4, 5, 3)
    torch.testing.assert_close(block(x), x * torch.sigmoid(block.bias)[:, None, None], rtol=1e-4, atol=1e-4)


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"^LCT: groups=5 does not divide channels=16; use groups=4 or 8$"):
        LCT(16, groups=5)
