"""What all tests of the plugin share: a fixed seed, and the comparison of a block to its formula."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def seed() -> None:
    """Give every test the same random numbers, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def compare_stirred() -> Callable[..., None]:
    """Return a function ``compare(block, plain, *inputs)``; ``plain`` is the formula, called with block and inputs.

    In float64, with every parameter and buffer drawn at random, so that nothing is hidden by a zero or a one that it
    starts as: the outputs, without and with autograd, and the gradients of all inputs and parameters must agree.
    """

    def compare(block: nn.Module, plain: Callable[..., Tensor], *inputs: Tensor) -> None:
        stir(block.double())
        inputs = tuple(x.double().requires_grad_() for x in inputs)
        expected, twin = plain(block, *inputs), deepcopy(block)
        with torch.no_grad():
            torch.testing.assert_close(twin(*inputs), expected.detach())
        output, leaves = block(*inputs), [*inputs, *block.parameters()]
        torch.testing.assert_close(output, expected)
        grad = torch.randn_like(expected)
        found, wanted = (torch.autograd.grad(y, leaves, grad) for y in (output, expected))
        torch.testing.assert_close(found, wanted)

    return compare


def stir(block: nn.Module) -> None:
    with torch.no_grad():
        for name, tensor in block.state_dict().items():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 2.0) if name.endswith("running_var") else tensor.normal_(std=0.5)
