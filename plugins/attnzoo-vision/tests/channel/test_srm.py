import pytest
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


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_a_trace_holds_for_other_sizes():
    torch.manual_seed(0)
    block = SRM(6).eval()
    torch.nn.init.normal_(block.style_weight)
    traced = torch.jit.trace(block, torch.randn(2, 6, 4, 5))
    for size in ((1, 1), (1, 2), (7, 3)):
        x = torch.randn(2, 6, *size)
        torch.testing.assert_close(traced(x), block(x))


def test_an_export_holds_for_other_sizes():
    torch.manual_seed(0)
    block = SRM(6).eval()
    torch.nn.init.normal_(block.style_weight)
    sizes = {0: torch.export.Dim("n"), 2: torch.export.Dim("h"), 3: torch.export.Dim("w")}
    exported = torch.export.export(block, (torch.randn(2, 6, 4, 5),), dynamic_shapes=[sizes]).module()
    for size in ((2, 2), (7, 3)):
        x = torch.randn(3, 6, *size)
        torch.testing.assert_close(exported(x), block(x))
