import pytest
import torch

from attnzoo_vision.self_attention.mhsa import MHSA


def test_it_is_the_formula():
    torch.manual_seed(0)
    block = MHSA(8, num_heads=2, qk_norm=True, value_norm=True, gate=True).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    q, k, v = (t.view(2, 5, 2, 4).transpose(1, 2) for t in block.qkv(x).chunk(3, 2))
    logits = block.query_norm(q) @ block.key_norm(k).transpose(2, 3) / 2
    y = block.value_norm((logits.softmax(3) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(x), block.projection(y * block.gate(x).sigmoid()))


def test_a_masked_key_has_no_weight():
    torch.manual_seed(0)
    block = MHSA(8, num_heads=2)
    x = torch.randn(2, 5, 8)
    mask = torch.ones(2, 5, 5, dtype=torch.bool)
    mask[:, :, 3] = False
    assert (block.attention(x, mask)["pairwise"][..., 3] == 0).all()
    changed = x.clone()
    changed[:, 3] += 1.0
    keep = [0, 1, 2, 4]
    torch.testing.assert_close(block(changed, mask)[:, keep], block(x, mask)[:, keep])


@pytest.mark.parametrize("mask", [None, "bool", "numbers"])
def test_a_causal_token_attends_to_no_later_one(mask):
    torch.manual_seed(0)
    block, plain = MHSA(8, num_heads=2, causal=True), MHSA(8, num_heads=2)
    plain.load_state_dict(block.state_dict())
    x, earlier = torch.randn(2, 5, 8), torch.ones(5, 5, dtype=torch.bool).tril()
    given = None if mask is None else torch.rand(2, 5, 5) > 0.3 if mask == "bool" else torch.randn(5, 5)
    if given is None or given.dtype == torch.bool:
        both = earlier if given is None else given.logical_or_(torch.eye(5, dtype=torch.bool)) & earlier
    else:
        both = given.masked_fill(~earlier, float("-inf"))
    torch.testing.assert_close(block(x, given), plain(x, both))
    pairwise = block.attention(x, given)["pairwise"]
    torch.testing.assert_close(pairwise, plain.attention(x, both)["pairwise"])
    assert (pairwise[..., ~earlier] == 0).all()
