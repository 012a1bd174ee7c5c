"""Attention with a bias that is learned: written out, because the fused kernels give it no gradient on a CPU."""

import torch
import torch.nn.functional as F

from attnzoo_vision.ops.heads import attend_heads


def test_learned_and_fixed_biases_give_the_same_numbers_and_gradients():
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    bias = torch.randn(1, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    inputs = (query, key, value, bias)
    learned = attend_heads(query, key, value, scale=0.5, bias=bias)
    fixed = attend_heads(query, key, value, scale=0.5, bias=bias.detach())
    torch.testing.assert_close(learned, fixed)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=0.5)
    grad = torch.randn_like(learned)
    torch.testing.assert_close(torch.autograd.grad(learned, inputs, grad), torch.autograd.grad(expected, inputs, grad))


def test_small_maps_give_the_same_numbers_and_gradients():
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 14, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    trained = attend_heads(*inputs, scale=0.5)
    assert "ScaledDotProduct" not in graph_of(trained)
    expected = F.scaled_dot_product_attention(*inputs, scale=0.5)
    torch.testing.assert_close(trained, expected)
    grad = torch.randn_like(trained)
    torch.testing.assert_close(torch.autograd.grad(trained, inputs, grad), torch.autograd.grad(expected, inputs, grad))


def test_large_maps_are_never_made():
    inputs = [torch.randn(1, 1, 600, 8, requires_grad=True) for _ in range(3)]
    assert "ScaledDotProduct" in graph_of(attend_heads(*inputs, scale=0.5))


def graph_of(y: torch.Tensor) -> str:
    """Return the names of the backward functions near the output."""
    node, names = y.grad_fn, []
    while node is not None and len(names) < 5:
        names.append(node.name())
        node = next((n for n, _ in node.next_functions if n is not None), None)
    return " ".join(names)


def test_dropout_of_a_learned_bias_drops_weights():
    torch.manual_seed(0)
    ones = torch.ones(1, 1, 64, 4)
    bias = torch.zeros(1, 1, 64, 64, requires_grad=True)
    y = attend_heads(ones, ones, ones, scale=0.5, bias=bias, dropout=0.5)
    assert y.std() > 0
    assert abs(y.mean().item() - 1) < 0.05
