import pytest
import torch
from torch import nn

from attnzoo_vision.ops.activation import get_activation, get_fresh_activation, get_gate

LAYERS = {
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "leaky_relu": nn.LeakyReLU(),
    "elu": nn.ELU(),
    "celu": nn.CELU(),
    "selu": nn.SELU(),
    "silu": nn.SiLU(),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU(approximate="tanh"),
    "hard_swish": nn.Hardswish(),
    "mish": nn.Mish(),
    "softplus": nn.Softplus(),
    "softsign": nn.Softsign(),
    "sigmoid": nn.Sigmoid(),
    "log_sigmoid": nn.LogSigmoid(),
    "hard_sigmoid": nn.Hardsigmoid(),
    "tanh": nn.Tanh(),
    "hard_tanh": nn.Hardtanh(),
    "identity": nn.Identity(),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_name_is_torchs_layer(name):
    x = torch.linspace(-7, 7, 57)
    expected = LAYERS[name](x)
    for function in (get_activation("Block", name), get_gate("Block", name)):
        torch.testing.assert_close(function(x), expected, rtol=0, atol=0)
    torch.testing.assert_close(get_fresh_activation("Block", name)(x.clone()), expected, rtol=0, atol=0)


def test_those_that_torch_has_no_layer_for_are_their_formulas():
    x = torch.linspace(-7, 7, 57)
    torch.testing.assert_close(get_activation("Block", "quick_gelu")(x), x / (1 + torch.exp(-1.702 * x)))
    torch.testing.assert_close(get_activation("Block", "hard_mish")(x), x / 2 * (x + 2).clamp(0, 2))
    torch.testing.assert_close(get_gate("Block", "hard_sigmoid_0.2")(x), (x / 5 + 0.5).clamp(0, 1))


def test_a_gate_alone_is_no_activation():
    with pytest.raises(ValueError, match=r"^Block: activation='hard_sigmoid_0.2' is not known; use one of 'relu', "):
        get_activation("Block", "hard_sigmoid_0.2")
