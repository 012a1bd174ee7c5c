import re

import pytest
import torch
from torch import nn

from attnzoo_vision.mixed.ema import EMA


def formula(block: EMA, x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    u = x.reshape(n * block.groups, c // block.groups, h, w)
    strips = block.strip(torch.cat([u.mean(3), u.mean(2)], dim=2).transpose(1, 2)).transpose(1, 2)
    rows, columns = strips.split([h, w], dim=2)
    a = block.norm(u * torch.sigmoid(rows)[:, :, :, None] * torch.sigmoid(columns)[:, :, None, :])
    b = block.local(u)
    logits = torch.softmax(a.mean((2, 3), keepdim=True), 1) * b + torch.softmax(b.mean((2, 3), keepdim=True), 1) * a
    return (u * torch.sigmoid(logits.sum(1, keepdim=True))).reshape(n, c, h, w)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(5, 7), (1, 4), (2, 1)])
def test_equals_the_formula(size: tuple[int, int], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    block = EMA(12, groups=3).double()
    torch.nn.init.normal_(block.norm.weight)
    torch.nn.init.normal_(block.norm.bias)
    x = torch.randn(2, 12, *size, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    y, expected = block(x), formula(block, x)
    torch.testing.assert_close(y, expected)
    upstream = torch.randn_like(y)
    got, wanted = (torch.autograd.grad(z, [x, *block.parameters()], upstream) for z in (y, expected))
    torch.testing.assert_close(got, wanted)


def test_keeps_channels_last() -> None:
    x = torch.randn(2, 8, 3, 4).contiguous(memory_format=torch.channels_last)
    assert EMA(8, groups=2)(x).is_contiguous(memory_format=torch.channels_last)


def test_a_convolution_that_does_not_pad_by_zeros_is_refused() -> None:
    block = EMA(8, groups=2)
    block.local = torch.nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
    wanted = "an odd kernel, stride and dilation 1 and padding by zeros as wide as half the kernel"
    message = f"affine: found {block.local!r}, expected a convolution with {wanted}; put such a layer in its place"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        block(torch.randn(1, 8, 5, 4))


def test_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="EMA: groups=32 does not divide channels=80; use groups=20 or 40"):
        EMA(80)


@pytest.mark.parametrize(
    "local", [nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 5, padding=2), nn.Conv2d(4, 4, 3, padding=1, groups=4)]
)
def test_a_layer_of_other_sizes_in_its_place_is_refused(local):
    block = EMA(8, groups=2)
    block.local = local
    words = f"EMA: local.weight of shape {tuple(local.weight.shape)}, expected (4, 4, 3, 3); put a layer of these sizes"
    with pytest.raises(ValueError, match=re.escape(words)):
        block(torch.randn(2, 8, 5, 5))
