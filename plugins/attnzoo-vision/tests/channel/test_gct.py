import pytest
import torch

from attnzoo_vision.channel.gct import GCT


def test_output_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    block = GCT(6).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    e = block.alpha * (x.pow(2).sum((2, 3)) + 1e-5).sqrt()
    gate = 1 + torch.tanh(block.gamma * e / (e.pow(2).mean(1, keepdim=True) + 1e-5).sqrt() + block.beta)
    torch.testing.assert_close(block(x), x * gate[:, :, None, None])
    torch.testing.assert_close(block(x.requires_grad_()), x * gate[:, :, None, None])


def test_a_new_block_is_the_identity():
    x = torch.randn(2, 6, 5, 3)
    torch.testing.assert_close(GCT(6)(x), x)


def test_large_maps_in_half_precision_do_not_overflow():
    x = torch.full((1, 4, 56, 56), 5.0, dtype=torch.float16)
    assert GCT(4).half()(x).isfinite().all()


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"^GCT: mode='l3' is not known; use one of 'l2', 'l1'$"):
        GCT(6, mode="l3")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_both_orders_are_those_of_the_formula(layout):
    torch.manual_seed(0)
    block = GCT(4).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    assert torch.autograd.gradcheck(block, x)
    assert torch.autograd.gradgradcheck(block, x)
