import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from attnzoo.layers import Affine, affine, is_plain, join, split

LAYERS = {
    "linear": nn.Linear(3, 5),
    "linear without bias": nn.Linear(3, 5, bias=False),
    "line": nn.Conv1d(1, 1, 5, padding=2),
    "ring": nn.Conv1d(1, 1, 5, padding=2, padding_mode="circular"),
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
