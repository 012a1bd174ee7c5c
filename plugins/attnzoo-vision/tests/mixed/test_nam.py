import copy

import pytest
import torch

from attnzoo_vision.mixed.nam import NAM


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_formula_with_its_gradients_and_statistics(training: bool) -> None:
    torch.manual_seed(0)
    block = NAM(6).double().train(training)
    torch.nn.init.normal_(block.norm.weight)
    norm = copy.deepcopy(block.norm)
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    share = (norm.weight.abs() / norm.weight.abs().sum()).detach()
    expected = x * torch.sigmoid(share[:, None, None] * norm(x))
    y = block(x)
    torch.testing.assert_close(y, expected)
    got = torch.autograd.grad(y.sin().sum(), [x, *block.parameters()])
    torch.testing.assert_close(got, torch.autograd.grad(expected.sin().sum(), [x, *norm.parameters()]))
    torch.testing.assert_close(block.norm.state_dict(), norm.state_dict())


def test_trains_on_one_pixel_with_the_running_statistics() -> None:
    torch.manual_seed(0)
    block = NAM(6)
    for tensor in (block.norm.weight, block.norm.bias, block.norm.running_mean):
        torch.nn.init.normal_(tensor)
    state = copy.deepcopy(block.state_dict())
    x = torch.randn(1, 6, 1, 1)
    expected = copy.deepcopy(block).eval()(x)
    torch.testing.assert_close(block(x), expected)
    torch.testing.assert_close(x * block.attention(x)["element"], expected)
    torch.testing.assert_close(block.state_dict(), state)


def test_no_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="NAM: channels=0 is below 1; use 1 or more"):
        NAM(0)


def test_a_norm_without_scales_is_refused():
    block = NAM(4)
    block.norm = torch.nn.BatchNorm2d(4, affine=False)
    message = "^NAM: norm.weight is None, expected the scales that the weights come from; use affine=True$"
    with pytest.raises(ValueError, match=message):
        block(torch.randn(2, 4, 3, 3))
