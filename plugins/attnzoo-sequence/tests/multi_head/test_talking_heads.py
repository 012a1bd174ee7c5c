import torch

from attnzoo_sequence.multi_head.talking_heads import TalkingHeads


def test_it_is_the_formula():
    torch.manual_seed(0)
    block = TalkingHeads(6, 2, softmax_heads=4, value_heads=3, key_dim=5, value_dim=2, talk_bias=True).double()
    torch.nn.init.normal_(block.talk_before.bias)
    torch.nn.init.normal_(block.talk_after.bias)
    x = torch.randn(2, 4, 6).double()
    q, k = (m(x).unflatten(-1, (2, 5)) for m in (block.query, block.key))
    score = torch.einsum("nikd,njkd->nijk", q, k) / 5**0.5
    mixed = block.talk_after(block.talk_before(score).softmax(2))
    read = torch.einsum("nijv,njvd->nivd", mixed, block.value(x).unflatten(-1, (3, 2))).flatten(2)
    torch.testing.assert_close(block(x), block.output(read))


def test_hidden_keys_have_no_weight_in_spite_of_the_bias():
    torch.manual_seed(0)
    block = TalkingHeads(6, 2, talk_bias=True)
    torch.nn.init.ones_(block.talk_after.bias)
    mask = torch.tensor([[True, True, False]])
    assert not block.attention(torch.randn(1, 3, 6), mask)["mixed"][..., 2].any()
