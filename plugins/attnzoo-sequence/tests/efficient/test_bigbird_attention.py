import torch

from attnzoo_sequence.efficient.bigbird_attention import BigBirdAttention


def test_forward_equals_full_attention_under_the_pattern() -> None:
    torch.manual_seed(0)
    block = BigBirdAttention(8, num_heads=2, block_size=4, num_random=2).double()
    x, mask = torch.randn(2, 51, 8, dtype=torch.float64), torch.rand(2, 51) < 0.8
    value = block.value(x).view(2, 51, 2, 4).transpose(1, 2)
    wanted = (block.attention(x, mask)["attention"] @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(block(x, mask), wanted)


def test_each_inner_block_sees_neighbours_ends_and_random_others_once() -> None:
    block = BigBirdAttention(8, num_heads=2, block_size=4, num_random=3)
    plan = block.plan(16, torch.device("cpu"))
    for head in plan.tolist():
        for row, seen in enumerate(head, start=1):
            real = [b for b in seen if b >= 0]
            assert len(real) == len(set(real))
            assert {0, row - 1, row, row + 1, 15} <= set(real)
            assert len(set(real) - {0, row - 1, row, row + 1, 15}) == 3
    assert not torch.equal(plan[0], plan[1])


def test_the_pattern_follows_from_the_seed() -> None:
    plans = [BigBirdAttention(8, num_heads=2, seed=s).plan(16, torch.device("cpu")) for s in (0, 0, 1)]
    assert torch.equal(plans[0], plans[1])
    assert not torch.equal(plans[0], plans[2])


def test_a_sequence_of_two_blocks_is_attended_in_full() -> None:
    torch.manual_seed(0)
    block = BigBirdAttention(8, num_heads=2, block_size=4)
    assert block.attention(torch.randn(1, 8, 8))["attention"].gt(0).all()
