import pytest
import torch

from attnzoo_sequence.efficient.longformer_attention import LongformerAttention


def example(length: int = 150) -> tuple[LongformerAttention, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    block = LongformerAttention(8, num_heads=2, window_size=6).double()
    x = torch.randn(2, length, 8, dtype=torch.float64)
    return block, x, torch.rand(2, length) < 0.05, torch.rand(2, length) < 0.8


def test_equals_full_attention_under_the_pattern() -> None:
    block, x, is_global, mask = example()
    is_global = is_global & mask
    values = [p(x).view(2, -1, 2, 4).transpose(1, 2) for p in (block.value, block.value_global)]
    weights = block.attention(x, is_global, mask)["attention"]
    wanted = torch.where(is_global[:, None, :, None], weights @ values[1], weights @ values[0])
    torch.testing.assert_close(block(x, is_global, mask), wanted.transpose(1, 2).flatten(2))


def test_a_token_sees_half_the_window_on_each_side() -> None:
    block, x, is_global, _ = example(20)
    weights = block.attention(x, torch.zeros_like(is_global))["attention"]
    assert (weights[0, 0, 10] > 0).nonzero().flatten().tolist() == [7, 8, 9, 10, 11, 12, 13]


def test_hidden_tokens_give_zeros() -> None:
    block, x, is_global, mask = example()
    assert block(x, is_global, mask)[~mask].eq(0).all()


def test_reserved_places_do_not_change_the_numbers() -> None:
    block, x, is_global, mask = example()
    wanted = block(x, is_global, mask)
    block.max_global = 40
    torch.testing.assert_close(block(x, is_global, mask), wanted)


def test_too_many_global_tokens_are_refused() -> None:
    block = LongformerAttention(8, num_heads=2, window_size=2, max_global=1)
    with pytest.raises(ValueError, match=r"^LongformerAttention: 3 global tokens are more than max_global=1$"):
        block(torch.zeros(1, 3, 8), torch.ones(1, 3, dtype=torch.bool))
