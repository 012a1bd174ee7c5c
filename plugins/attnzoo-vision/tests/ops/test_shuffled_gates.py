"""The one function of shuffle attention against the plain operators."""

import pytest
import torch

from attnzoo_vision.ops.shuffled_gates import plain_gates, shuffled_gates

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def inputs(layout: torch.memory_format) -> list[torch.Tensor]:
    x_nchw = torch.randn(2, 24, 5, 4, dtype=torch.float64).contiguous(memory_format=layout)
    return [x_nchw.requires_grad_(), *(torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(4))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_and_gradients_are_those_of_the_plain_operators(layout):
    x_nchw, *affine = inputs(layout)
    output, expected = (form(x_nchw, tuple(affine), 3, 1e-5) for form in (shuffled_gates, plain_gates))
    torch.testing.assert_close(output, expected)
    assert output.is_contiguous(memory_format=layout)
    grad = torch.randn_like(output)
    found, wanted = (torch.autograd.grad(y, (x_nchw, *affine), grad) for y in (output, expected))
    torch.testing.assert_close(found, wanted)
