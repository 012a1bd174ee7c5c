"""The local sum of contextual transformer layers against unfolded windows, with its gradients."""

import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.ops.contextual import aggregate_locally


def by_unfolding(value, weight, size, groups):
    samples, channels, height, width = value.shape
    windows = F.unfold(value, size, padding=size // 2).view(samples, groups, -1, size**2, height, width)
    weight = weight.view(samples, groups, -1, size**2, height, width)
    repeated = windows.unflatten(2, (-1, weight.shape[2])) * weight.unsqueeze(2)
    return repeated.sum(4).reshape(samples, channels, height, width)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("size", "groups"), [(3, 1), (3, 2), (5, 2), (1, 1)])
def test_local_sums_and_their_gradients(layout, size, groups):
    torch.manual_seed(0)
    value = torch.randn(2, 8, 4, 5, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(2, 2 * groups * size**2, 4, 5, dtype=torch.float64).contiguous(memory_format=layout)
    weight.requires_grad_()
    ours, plain = (form(value, weight, size, groups) for form in (aggregate_locally, by_unfolding))
    torch.testing.assert_close(ours, plain)
    grad = torch.randn_like(plain)
    theirs = torch.autograd.grad(plain, (value, weight), grad)
    torch.testing.assert_close(torch.autograd.grad(ours, (value, weight), grad), theirs)
    with torch.no_grad():
        torch.testing.assert_close(aggregate_locally(value, weight, size, groups), plain)
