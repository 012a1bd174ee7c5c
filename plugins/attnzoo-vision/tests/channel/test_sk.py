import pytest
import torch

import attnzoo
from attnzoo_vision.channel.sk import SK
from attnzoo_vision.channel.sk_linear import SKLinear


def test_output_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    block = SK(8, groups=2).double().eval()
    x = torch.randn(2, 8, 5, 3, dtype=torch.float64)
    first, second = (torch.relu(branch(x)) for branch in block.branches)
    hidden = torch.relu(block.norm((first + second).mean((2, 3)) @ block.squeeze.weight.T))
    weight = (hidden @ block.select.weight.T).view(2, 2, 8).softmax(1)[:, :, :, None, None]
    expected = first * weight[:, 0] + second * weight[:, 1]
    torch.testing.assert_close(block(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected)


def test_a_new_block_is_drawn_as_the_caffe_model_says():
    torch.manual_seed(0)
    block = SK(256, groups=4, hidden_channels=128, select_bias=True)
    for branch in block.branches:  # 64 channels a group, 3 x 3 taps
        assert branch.conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
        assert branch.norm.weight.eq(1).all()
        assert branch.norm.bias.eq(0).all()
    for layer in (block.squeeze, block.select):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert abs(layer.weight.mean().item()) < 2e-4
    assert block.select.bias.eq(0).all()


def test_a_large_kernel_is_three_taps_that_lie_apart():
    assert [branch.conv.dilation[0] for branch in SK(8, kernel_size=[3, 5, 7], groups=2).branches] == [1, 2, 3]


def test_the_linear_form_has_nothing_between_its_layers():
    torch.manual_seed(0)
    block = SKLinear(8, groups=2).double().eval()
    x = torch.randn(2, 8, 5, 3, dtype=torch.float64)
    first, second = (torch.relu(branch(x)) for branch in block.branches)
    weight = block.select(block.squeeze((first + second).mean((2, 3)))).view(2, 2, 8).softmax(1)[:, :, :, None, None]
    torch.testing.assert_close(block(x), first * weight[:, 0] + second * weight[:, 1])


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match=r"^SK: kernel_size=4 is not a positive odd number; use 3 or 5$"):
        SK(32, kernel_size=[3, 4])


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"^SK: groups=32 does not divide channels=48; use groups=24 or 48$"):
        SK(48)


@pytest.mark.parametrize("block", [SK, SKLinear])
def test_a_block_without_branches_is_refused(block):
    message = rf"^{block.__name__}: kernel_size=\[\] is empty; give odd numbers, as in \[3, 5\]$"
    with pytest.raises(ValueError, match=message):
        block(32, kernel_size=[])


def test_channels_that_the_branches_cannot_share_are_refused():
    message = "SK: split_input=True does not share channels=33 evenly among 2 branches; use a multiple of 2"
    with pytest.raises(ValueError, match=f"^{message}$"):
        SK(33, split_input=True)


def test_an_anti_aliasing_layer_has_no_part_without_a_stride(tmp_path):
    block = attnzoo.create("sk", channels=8, groups=1, hidden_channels=8, split_input=True)
    attnzoo.export(block, tmp_path / "a.safetensors", "timm")
    loaded = attnzoo.load_foreign(tmp_path / "a.safetensors", "sk", "timm", in_channels=8, aa_layer="avg")
    x = torch.randn(2, 8, 5, 3)
    assert torch.equal(loaded.eval()(x), block.eval()(x))


@pytest.mark.parametrize("count", [1, 4, 5, 8])
def test_a_port_may_have_many_kernels(tmp_path, count):
    kernels = list(range(1, 2 * count, 2))
    block = attnzoo.create("sk-linear", channels=4, kernel_size=kernels, groups=1, hidden_channels=3)
    attnzoo.export(block, tmp_path / "a.safetensors", "xmu")
    given = {"channel": 4, "kernels": kernels, "L": 3}
    loaded = attnzoo.load_foreign(tmp_path / "a.safetensors", "sk-linear", "xmu", **given)
    x = torch.randn(2, 4, 5, 3)
    assert torch.equal(loaded.eval()(x), block.eval()(x))
