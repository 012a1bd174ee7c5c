import pytest
import torch

from attnzoo_vision.mixed.simam import SimAM


def formula(x: torch.Tensor, e_lambda: float) -> torch.Tensor:
    n = x.shape[2] * x.shape[3] - 1
    d = (x - x.mean(dim=(2, 3), keepdim=True)) ** 2
    v = d.sum(dim=(2, 3), keepdim=True) / n
    return x * torch.sigmoid(d / (4 * (v + e_lambda)) + 0.5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 5, 7, 4), (3, 70, 48, 30)])
def test_equals_the_formula_with_its_gradient(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    upstream = torch.randn(shape, dtype=torch.float64)
    y, expected = SimAM(e_lambda=0.1)(x), formula(x, 0.1)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(torch.autograd.grad(y, x, upstream)[0], torch.autograd.grad(expected, x, upstream)[0])
    torch.testing.assert_close(SimAM(e_lambda=0.1)(x.detach()), expected.detach())


def test_can_be_differentiated_twice() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(SimAM(e_lambda=0.1), x)


def test_a_single_pixel_is_scaled_by_sigmoid_of_one_half() -> None:
    x = torch.tensor([[[[2.0]]]])
    torch.testing.assert_close(SimAM()(x), 2 * torch.sigmoid(torch.tensor([[[[0.5]]]])))


def test_a_lambda_of_zero_leaves_the_variance_alone() -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    squared = (x - x.mean((2, 3), keepdim=True)).square()
    weight = torch.sigmoid(squared / (4 * x.var((2, 3), keepdim=True)) + 0.5)
    torch.testing.assert_close(SimAM(e_lambda=0)(x), x * weight)


def test_a_negative_lambda_is_refused() -> None:
    with pytest.raises(ValueError, match=r"SimAM: e_lambda=-1 is negative; the authors use 1e-4 or 0.1"):
        SimAM(e_lambda=-1)


def test_an_empty_batch_stays_empty():
    x = torch.randn(0, 4, 3, 3, requires_grad=True)
    y = SimAM()(x)
    y.sum().backward()
    assert y.shape == x.grad.shape == x.shape
