import pytest
import torch

from attnzoo_sequence.efficient.reformer_attention import ReformerAttention


def example(**arguments: int) -> tuple[ReformerAttention, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    block = ReformerAttention(8, num_heads=2, chunk_size=4, num_buckets=4, **arguments).double()
    return block, torch.randn(2, 22, 8, dtype=torch.float64), torch.rand(2, 22) < 0.8


@pytest.mark.parametrize("arguments", [{}, {"num_hashes": 3}, {"num_hashes": 2, "causal": True}])
def test_forward_equals_its_weights(arguments: dict[str, int]) -> None:
    block, x, mask = example(**arguments)
    value = block.value(x).view(2, 22, 2, 4).transpose(1, 2)
    wanted = block.out_proj((block.attention(x, mask)["attention"] @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(x, mask), wanted)


def test_one_bucket_and_one_chunk_are_full_attention_without_self() -> None:
    torch.manual_seed(0)
    block = ReformerAttention(8, num_heads=1, chunk_size=32, num_buckets=2).double()
    x = torch.randn(1, 22, 8, dtype=torch.float64)
    query = block.query_key(x)
    score = query @ torch.nn.functional.normalize(query, dim=-1).transpose(1, 2)
    score = score.masked_fill(torch.eye(22, dtype=torch.bool), -1e5)
    torch.testing.assert_close(block(x), block.out_proj(score.softmax(dim=-1) @ block.value(x)))


def test_a_causal_block_does_not_look_ahead() -> None:
    block, x, _ = example(causal=True, num_hashes=2)
    weights = block.attention(x)["attention"]
    assert weights.triu(1).eq(0).all()


def test_rotations_are_redrawn_only_when_asked() -> None:
    block, x, _ = example()
    assert torch.equal(block(x), block(x))
    before = block.rotations.clone()
    block.redraw()
    assert not torch.equal(before, block.rotations)


def test_an_odd_number_of_buckets_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^ReformerAttention: num_buckets=3 is odd; take an even number$"):
        ReformerAttention(8, num_buckets=3)
