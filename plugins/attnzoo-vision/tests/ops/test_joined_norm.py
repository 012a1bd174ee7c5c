"""A convolution joined with its batch norm."""

import torch
from torch import nn

from attnzoo_vision.ops.joined_norm import conv_and_norm


def layers(bias: bool) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv, norm = nn.Conv2d(6, 4, 3, 2, 1, groups=2, bias=bias), nn.BatchNorm2d(4)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 2.0)
    return conv, norm.eval()


def test_joined_layers_give_the_numbers_of_the_two():
    for size in ((7, 5), (1, 1)):  # of the second, the weights outnumber the results, and nothing is joined
        x_nchw = torch.randn(2, 6, *size)
        for bias in (False, True):
            conv, norm = layers(bias)
            with torch.no_grad():
                torch.testing.assert_close(conv_and_norm(conv, norm, x_nchw), norm(conv(x_nchw)))


def test_a_hook_on_a_layer_still_runs():
    conv, norm = layers(bias=False)
    seen = []
    conv.register_forward_hook(lambda *_: seen.append(True))
    with torch.no_grad():
        conv_and_norm(conv, norm, torch.randn(1, 6, 4, 4))
    assert seen


def test_training_updates_the_statistics():
    conv, norm = layers(bias=False)
    before = norm.running_mean.clone()
    with torch.no_grad():
        conv_and_norm(conv, norm.train(), torch.randn(2, 6, 4, 4))
    assert not torch.equal(norm.running_mean, before)
