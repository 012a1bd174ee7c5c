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


def test_dropout_of_a_learned_bias_drops_weights():
    torch.manual_seed(0)
    ones = torch.ones(1, 1, 64, 4)
    bias = torch.zeros(1, 1, 64, 64, requires_grad=True)
    y = attend_heads(ones, ones, ones, scale=0.5, bias=bias, dropout=0.5)
    assert y.std() > 0
    assert abs(y.mean().item() - 1) < 0.05
