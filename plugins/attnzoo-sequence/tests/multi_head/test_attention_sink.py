import pytest
import torch

from attnzoo_sequence.multi_head.attention_sink import AttentionSink


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("length", [4, 6])
def test_it_is_the_formula(causal, masked, length):
    torch.manual_seed(0)
    block = AttentionSink(4, num_kv_heads=2, causal=causal).double()
    with torch.no_grad():
        block.sinks.normal_()
    query, key, value = torch.randn(2, 4, length, 3), torch.randn(2, 2, 6, 3), torch.randn(2, 2, 6, 5)
    query, key, value = query.double(), key.double(), value.double()
    mask = torch.rand(2, 6) > 0.5 if masked else None
    score = query @ key.repeat_interleave(2, 1).mT / 3**0.5
    if causal:
        score = score.masked_fill(~torch.ones(length, 6).tril(6 - length).bool(), -torch.inf)
    if masked:
        score = score.masked_fill(~mask[:, None, None], -torch.inf)
    sink = block.sinks[None, :, None, None].expand(2, 4, length, 1)
    weights = torch.cat([score, sink], -1).softmax(-1)[..., :-1]
    torch.testing.assert_close(block(query, key, value, mask), weights @ value.repeat_interleave(2, 1))
    torch.testing.assert_close(block.attention(query, key, value, mask)["attention"], weights)


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(
        ValueError, match=r"^AttentionSink: num_kv_heads=3 does not divide num_heads=4; use num_kv_heads=2 or 4$"
    ):
        AttentionSink(4, num_kv_heads=3)
