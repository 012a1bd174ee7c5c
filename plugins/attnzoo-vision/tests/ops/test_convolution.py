"""The quick forms of convolutions in training against the layers themselves."""

import pytest
import torch
from torch import nn

from attnzoo_vision.ops.convolution import convolve

LAYERS = [
    nn.Conv1d(6, 6, 3, padding=1, groups=6),
    nn.Conv1d(6, 6, 5, stride=2, padding=4, dilation=2, groups=6, bias=False),
    nn.Conv1d(6, 6, 3, padding="same", groups=6),
    nn.Conv1d(6, 6, 3, padding=1, groups=6, padding_mode="circular"),
    nn.Conv1d(6, 6, 3, groups=2),
    nn.Conv2d(6, 1, 1),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_layers_keep_their_numbers_and_gradients(layer):
    torch.manual_seed(0)
    shape = (2, 6, 9) if isinstance(layer, nn.Conv1d) else (2, 6, 5, 4)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    layer = layer.double()
    ours, plain = convolve(layer, x), layer(x)
    torch.testing.assert_close(ours, plain)
    grad, inputs = torch.randn_like(plain), (x, *layer.parameters())
    theirs = torch.autograd.grad(plain, inputs, grad)
    torch.testing.assert_close(torch.autograd.grad(ours, inputs, grad), theirs)
