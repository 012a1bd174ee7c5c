import torch
import torch.nn.functional as F

from attnzoo_sequence.efficient.linear_attention import LinearAttention


def formula(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    weight = torch.einsum("nhld,nhmd->nhlm", F.elu(query) + 1, F.elu(key) + 1) * visible
    return weight @ value / (weight.sum(dim=-1, keepdim=True) + 1e-6)


def inputs(length: int, keys: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    sizes = ((length, 4), (keys, 4), (keys, 5))
    return [torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True) for size in sizes]


def test_equals_the_formula_with_its_gradient() -> None:
    tensors = inputs(6, 9)
    mask = torch.rand(2, 9) < 0.6
    found = LinearAttention()(*tensors, mask)
    wanted = formula(*tensors, mask[:, None, None, :])
    torch.testing.assert_close(found, wanted)
    upstream = torch.randn_like(wanted)
    torch.testing.assert_close(
        torch.autograd.grad(found, tensors, upstream), torch.autograd.grad(wanted, tensors, upstream)
    )


def test_the_causal_form_equals_the_formula_over_several_chunks() -> None:
    tensors = inputs(150, 150)
    torch.testing.assert_close(LinearAttention(causal=True)(*tensors), formula(*tensors, torch.ones(150, 150).tril()))


def test_more_keys_than_queries_are_aligned_at_the_end() -> None:
    query, key, value = inputs(70, 70)
    block = LinearAttention(causal=True)
    torch.testing.assert_close(block(query[:, :, -3:], key, value), block(query, key, value)[:, :, -3:])


def test_later_keys_change_nothing_before_them() -> None:
    query, key, value = inputs(130, 130)
    block = LinearAttention(causal=True)
    changed = value.detach().clone()
    changed[:, :, 100:] += 1
    torch.testing.assert_close(block(query, key, changed)[:, :, :100], block(query, key, value)[:, :, :100])


def test_a_query_without_keys_gives_zeros() -> None:
    assert LinearAttention()(*inputs(4, 5), torch.zeros(2, 5, dtype=torch.bool)).eq(0).all()
