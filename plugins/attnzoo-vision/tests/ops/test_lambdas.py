"""The forms of applying place lambdas: each is the definition, whatever the window, the map and the depth are."""

import pytest
import torch
from torch import nn

from attnzoo_vision.ops import lambdas


def by_definition(query_ngks, content_nvk, value_nuvs, place, size):
    image = value_nuvs.transpose(1, 2).flatten(0, 1).unflatten(2, size)
    place_nvks = place(image).flatten(2).unflatten(0, (value_nuvs.shape[0], -1))
    return torch.einsum("ngks,nvks->nsgv", query_ngks, place_nvks + content_nvk.unsqueeze(3))


@pytest.mark.parametrize("limits", [(1 << 20, 1), (0, 1), (0, 1 << 20)], ids=["pairs", "volume", "images"])
@pytest.mark.parametrize(("size", "kernel"), [((4, 3), (3, 3)), ((2, 3), (7, 5)), ((1, 1), (3, 1)), ((5, 4), (9, 7))])
@pytest.mark.parametrize(("depth", "bias"), [(1, True), (2, False)])
def test_every_form_is_the_definition_in_value_and_gradient(monkeypatch, limits, size, kernel, depth, bias):
    monkeypatch.setattr(lambdas, "_FEW", limits[0])
    monkeypatch.setattr(lambdas, "_WIDE", limits[1])
    torch.manual_seed(0)
    padding = (kernel[0] // 2, kernel[1] // 2)
    place = nn.Conv2d(depth, 4, kernel, padding=padding, bias=bias).double()
    positions = size[0] * size[1]
    shapes = [(2, 3, 4, positions), (2, 5, 4), (2, depth, 5, positions)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    ours = lambdas.apply_lambdas(*inputs, place, size)
    plain = by_definition(*inputs, place, size)
    torch.testing.assert_close(ours, plain)
    weight = torch.randn_like(plain)
    wanted = [*inputs, *place.parameters()]
    for gradient, expected in zip(
        torch.autograd.grad((ours * weight).sum(), wanted),
        torch.autograd.grad((plain * weight).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(gradient, expected)
