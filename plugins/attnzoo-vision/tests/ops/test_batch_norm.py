from itertools import product

import pytest
import torch
from torch import Tensor

from attnzoo_vision.ops.batch_norm import BatchNorm2d, BatchNorm3d


def _strided(values: Tensor, order: str, lone: int) -> Tensor:
    """Return ``values`` laid out in ``order``, with the stride ``lone`` for every axis of size 1."""
    axes = ["nchw".index(a) for a in order]
    dense = values.permute(axes).contiguous().permute([axes.index(a) for a in range(4)])
    strides = [lone if size == 1 else stride for size, stride in zip(dense.shape, dense.stride(), strict=True)]
    return dense.as_strided(dense.shape, strides)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 2, 2), (2, 3, 1, 4), (2, 3, 4, 1), (1, 4, 1, 3), (2, 3, 1, 1), (1, 1, 3, 2)])
def test_gradients_do_not_depend_on_the_strides_of_axes_of_size_1(shape, train):
    torch.manual_seed(0)
    norm = BatchNorm2d(shape[1]).double().train(train)
    torch.nn.init.normal_(norm.weight)
    x, grad = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    expected = _gradients(norm, x, grad)
    for x_order, grad_order, x_lone, grad_lone in product(["nchw", "nhwc"], ["nchw", "nhwc"], [1, 7], [1, 7]):
        found = _gradients(norm, _strided(x, x_order, x_lone), _strided(grad, grad_order, grad_lone))
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, msg=f"{x_order} {x_lone}, gradient {grad_order} {grad_lone}")


def _gradients(norm: BatchNorm2d | BatchNorm3d, x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(norm(x), [x, norm.weight, norm.bias], grad)


def test_can_be_differentiated_twice_with_a_batch_of_one():
    torch.manual_seed(0)
    norm = BatchNorm2d(2).double()
    x = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(norm, x)


def test_gradients_of_volumes_do_not_depend_on_those_strides_either():
    torch.manual_seed(0)
    norm = BatchNorm3d(3).double().eval()
    torch.nn.init.normal_(norm.running_mean)
    x, grad = torch.randn(1, 3, 2, 2, 2, dtype=torch.float64), torch.randn(1, 3, 2, 2, 2, dtype=torch.float64)
    turned = grad.movedim(1, -1).contiguous().movedim(-1, 1)
    turned = turned.as_strided(turned.shape, (1, *turned.stride()[1:]))
    for ours, theirs in zip(_gradients(norm, x, turned), _gradients(norm, x, grad), strict=True):
        torch.testing.assert_close(ours, theirs)


class _Nothing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return None


def test_a_gradient_that_is_none_passes():
    x = torch.randn(1, 3, 2, 2, requires_grad=True)
    (_Nothing.apply(BatchNorm2d(3)(x)).sum() + x.sum()).backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))
