import pytest
import torch

from attnzoo_vision.self_attention.position_sensitive_axial_attention import PositionSensitiveAxialAttention


def plain(block, x):
    """Attend along the last axis of ``(N, C, M, L)``."""
    n, _, m, size = x.shape
    g, d = block.num_heads, block.value_dim
    y = block.qkv_norm(block.qkv(x)).view(n, g, 2 * d, m, size).permute(0, 3, 1, 2, 4).flatten(0, 1)
    q, k, v = y.split([d // 2, d // 2, d], 2)
    step = torch.arange(size)[:, None] - torch.arange(size)[None] + block.kernel_size - 1
    rq, rk, rv = block.relative[:, step].split([d // 2, d // 2, d], 0)
    content = torch.einsum("bgci,bgcj->bgij", q, k)
    by_query = torch.einsum("bgci,cij->bgij", q, rq)
    by_key = torch.einsum("bgcj,cji->bgij", k, rk)
    logits = block.logit_norm(torch.cat([content, by_query, by_key], 1)).view(n * m, 3, g, size, size).sum(1)
    a = logits.softmax(3)
    both = torch.stack([torch.einsum("bgij,bgcj->bgci", a, v), torch.einsum("bgij,cij->bgci", a, rv)], 3)
    both = both.view(n, m, g * d * 2, size).transpose(1, 2)
    return block.out_norm(both).view(n, g * d, 2, m, size).sum(2)


@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_formula(training):
    torch.manual_seed(0)
    block = PositionSensitiveAxialAttention(8, num_heads=2, kernel_size=5, axis="width").double().train(training)
    block.logit_norm.running_var.uniform_(0.5, 2.0)
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(block(x), plain(block, x))


def test_an_axis_longer_than_the_tables_is_refused():
    message = "^PositionSensitiveAxialAttention: axis of 6 is longer than kernel_size=5; build it with 6 or more$"
    with pytest.raises(ValueError, match=message):
        PositionSensitiveAxialAttention(16, kernel_size=5)(torch.zeros(1, 16, 6, 3))
