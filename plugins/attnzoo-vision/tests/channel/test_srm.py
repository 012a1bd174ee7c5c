import torch

from attnzoo_vision.channel.srm import SRM


def test_output_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    block = SRM(6).double().eval()
    torch.nn.init.normal_(block.style_weight)
    block.norm.running_mean.normal_()
    x = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    style = torch.stack([x.mean((2, 3)), (x.flatten(2).var(2) + 1e-5).sqrt()], 2)
    weight = torch.sigmoid(block.norm((style * block.style_weight).sum(2)))
    torch.testing.assert_close(block(x), x * weight[:, :, None, None])
    torch.testing.assert_close(block(x.requires_grad_()), x * weight[:, :, None, None])


def test_a_new_block_halves_its_input_in_evaluation():
    x = torch.randn(1, 6, 1, 1)
    torch.testing.assert_close(SRM(6).eval()(x), x / 2)
