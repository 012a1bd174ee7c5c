import copy
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from attnzoo.layers import Affine, affine, chain, is_plain, join, keeps_size, reset_layers, split

LAYERS = {
    "linear": nn.Linear(3, 5),
    "linear without bias": nn.Linear(3, 5, bias=False),
    "line": nn.Conv1d(1, 1, 5, padding=2),
    "plane": nn.Conv2d(3, 5, 3, padding=1),
    "uneven plane": nn.Conv2d(3, 5, (1, 7)),
    "groups": nn.Conv2d(6, 4, 3, padding=1, groups=2),
    "each channel": nn.Conv2d(4, 4, 3, groups=4, bias=False),
    "strided point": nn.Conv2d(3, 5, 1, stride=2),
    "volume": nn.Conv3d(2, 3, 3),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_what_a_hooked_layer_applies_are_its_parameters(layer):
    assert is_plain(layer)
    assert affine(layer) == (layer.weight, layer.bias)
    handle = layer.register_forward_hook(lambda *_: None)
    weight, bias = affine(layer)
    handle.remove()
    torch.testing.assert_close(weight, layer.weight)
    torch.testing.assert_close(bias, torch.zeros(len(bias)) if layer.bias is None else layer.bias)


def test_a_hook_that_changes_the_result_counts():
    layer = nn.Linear(3, 5)
    layer.register_forward_hook(lambda _layer, _inputs, output: 2 * output + 1)
    weight, bias = affine(layer)
    torch.testing.assert_close(weight, 2 * layer.weight)
    torch.testing.assert_close(bias, 2 * layer.bias + 1)


def test_a_forward_set_on_the_layer_counts():
    layer = nn.Linear(3, 5)
    layer.forward = lambda x: x[:, :1].expand(-1, 5)
    expected = torch.zeros(5, 3)
    expected[:, 0] = 1
    torch.testing.assert_close(affine(layer), Affine(expected, torch.zeros(5)))


def test_gradients_pass_to_a_parametrisation():
    layer = parametrizations.weight_norm(nn.Linear(3, 5))
    affine(layer).weight.square().sum().backward()
    assert all(p.grad is not None for p in layer.parametrizations.parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch, about its own quantisation
def test_a_quantised_layer_is_asked():
    layer = nn.Linear(3, 5)
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(layer), {nn.Linear})[0]
    weight, bias = affine(quantised)
    torch.testing.assert_close(weight, layer.weight, rtol=0, atol=0.02)
    torch.testing.assert_close(bias, layer.bias, rtol=0, atol=0.02)


SKEWED = {
    "ring": nn.Conv1d(1, 1, 5, padding=2, padding_mode="circular"),
    "dilated": nn.Conv2d(3, 5, 3, padding=2, dilation=2),
    "strided": nn.Conv2d(3, 5, 3, padding=1, stride=2),
}
RESIZING = {
    "unpadded": nn.Conv2d(3, 5, 3),
    "wider padding": nn.Conv2d(3, 5, (1, 3), padding=1),
    "even kernel": nn.Conv1d(3, 5, 4, padding=2),
    "strided point": nn.Conv2d(3, 5, 1, stride=2),
}


@pytest.mark.parametrize("hooked", [False, True], ids=["plain", "hooked"])
@pytest.mark.parametrize("layer", SKEWED.values(), ids=SKEWED)
def test_a_convolution_that_its_weight_does_not_tell_is_refused(layer, hooked):
    asked = nn.Sequential(layer) if hooked else layer
    if hooked:
        asked.weight, asked.in_channels = layer.weight, layer.in_channels
    wanted = "expected a convolution with stride and dilation 1 and padding, if any, by zeros"
    message = f"affine: found {asked!r}, {wanted}; put such a layer in its place"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        affine(asked)


@pytest.mark.parametrize("hooked", [False, True], ids=["plain", "hooked"])
@pytest.mark.parametrize("layer", [*SKEWED.values(), *RESIZING.values()], ids=[*SKEWED, *RESIZING])
def test_a_convolution_that_changes_the_sizes_is_refused_where_they_are_taken_for_granted(layer, hooked):
    asked = copy.deepcopy(layer)
    if hooked:
        asked.register_forward_hook(lambda *_: None)
    wanted = "an odd kernel, stride and dilation 1 and padding by zeros as wide as half the kernel"
    message = f"affine: found {layer!r}, expected a convolution with {wanted}; put such a layer in its place"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        affine(asked, same=True)


@pytest.mark.parametrize("padding", [(1, 0), "same"])
def test_a_convolution_that_keeps_the_sizes_is_taken(padding):
    layer = nn.Conv2d(3, 5, (3, 1), padding=padding)
    assert keeps_size(layer)
    assert affine(layer, same=True) == (layer.weight, layer.bias)
    point = nn.Conv2d(3, 5, 1, padding="valid")
    assert affine(point, same=True) == (point.weight, point.bias)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_chained_layers_are_one(first, second):
    layers = nn.Linear(3, 4, bias=first), nn.Linear(4, 5, bias=second)
    weight, bias = chain(*map(affine, layers))
    x = torch.randn(6, 3)
    torch.testing.assert_close(nn.functional.linear(x, weight, bias), nn.Sequential(*layers)(x))
    assert (bias is None) == (not first and not second)


@pytest.mark.parametrize("bias", [True, False])
def test_split_is_the_inverse_of_join(bias):
    parts = [affine(nn.Linear(3, size, bias=bias)) for size in (2, 4)]
    for part, found in zip(parts, split(join(*parts), [2, 4]), strict=True):
        torch.testing.assert_close(found.weight, part.weight)
        assert found.bias is part.bias is None or torch.equal(found.bias, part.bias)


def test_joined_parts_without_bias_get_zeros_beside_one_with():
    with_bias, without = affine(nn.Linear(3, 2)), affine(nn.Linear(3, 4, bias=False))
    weight, bias = join(with_bias, without)
    assert weight.shape == (6, 3)
    torch.testing.assert_close(bias, torch.cat([with_bias.bias, torch.zeros(4)]))
    assert join(without, without).bias is None


def test_a_transposed_convolution_does_not_count_as_one_that_keeps_sizes():
    assert not keeps_size(nn.ConvTranspose2d(1, 1, 3, padding=1))


def test_attention_of_torch_is_reset_whole():
    block = nn.ModuleDict({"attend": nn.MultiheadAttention(8, 2)})
    for tensor in block.parameters():
        tensor.data.fill_(torch.nan)
    reset_layers(block)
    assert all(tensor.isfinite().all() for tensor in block.parameters())
