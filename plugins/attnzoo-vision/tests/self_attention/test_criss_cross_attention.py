"""Criss-cross attention: the formula written out pixel by pixel, and how far it reaches."""

import pytest
import torch

from attnzoo_vision.self_attention.criss_cross_attention import CrissCrossAttention


def test_one_softmax_covers_the_column_and_the_row():
    torch.manual_seed(0)
    block = CrissCrossAttention(4, reduction=2).double()
    torch.nn.init.constant_(block.gamma, 0.7)
    x_nchw = torch.randn(1, 4, 3, 5, dtype=torch.float64)
    x_hwc = x_nchw[0].permute(1, 2, 0)
    query, key, value = block.query(x_hwc), block.key(x_hwc), block.value(x_hwc)
    expected = x_nchw.clone()
    for h in range(3):
        for w in range(5):
            rows = [i for i in range(3) if i != h]
            keys = torch.cat([key[rows, w], key[h]])
            values = torch.cat([value[rows, w], value[h]])
            expected[0, :, h, w] += 0.7 * torch.softmax(keys @ query[h, w], dim=0) @ values
    torch.testing.assert_close(block(x_nchw), expected)
    torch.testing.assert_close(block(x_nchw.to(memory_format=torch.channels_last)), expected)
    weight = block.attention(x_nchw)["criss_cross"]
    assert weight.shape == (1, 1, 3, 5, 8)
    assert not weight[0, 0, range(3), :, range(3)].any()


@pytest.mark.parametrize("recurrence", [1, 2])
def test_the_second_application_reaches_every_pixel(recurrence):
    block = CrissCrossAttention(4, reduction=2, recurrence=recurrence)
    torch.nn.init.constant_(block.gamma, 1.0)
    x_nchw = torch.randn(1, 4, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(x_nchw)[0, 0, 0, 0], x_nchw)
    assert bool(gradient[0, :, 2, 3].any()) == (recurrence == 2)
