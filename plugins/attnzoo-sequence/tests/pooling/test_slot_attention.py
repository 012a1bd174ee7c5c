import torch

from attnzoo_sequence.pooling.slot_attention import SlotAttention


def test_equals_the_formula() -> None:
    torch.manual_seed(0)
    block = SlotAttention(6, num_slots=3, iterations=2, hidden_channels=5).double()
    x, noise = torch.randn(2, 7, 6, dtype=torch.float64), torch.randn(2, 3, 6, dtype=torch.float64)
    slots = block.mean + block.log_std.exp() * noise
    key, value = block.key(block.norm_input(x)), block.value(block.norm_input(x))
    for _ in range(2):
        weight = (key @ block.query(block.norm_slots(slots)).transpose(1, 2) / 6**0.5).softmax(dim=2) + 1e-8
        mean = torch.einsum("nms,nmc->nsc", weight / weight.sum(dim=1, keepdim=True), value)
        slots = block.update(mean.reshape(6, 6), slots.reshape(6, 6)).view(2, 3, 6)
        slots = slots + block.mlp_out(block.mlp_in(block.norm_mlp(slots)).relu())
    torch.testing.assert_close(block(x, noise), slots)


def test_slots_follow_the_noise_and_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    block = SlotAttention(6, num_slots=3, hidden_channels=5)
    x, noise = torch.randn(1, 7, 6), torch.randn(1, 3, 6)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(block(x, noise)[:, order], block(x, noise[:, order]))
    mask = torch.tensor([[True] * 5 + [False] * 2])
    torch.testing.assert_close(block(x, noise, mask), block(x[:, :5], noise))


def test_the_slots_share_every_token() -> None:
    torch.manual_seed(0)
    block = SlotAttention(6, num_slots=3)
    share = block.attention(torch.randn(1, 7, 6), torch.randn(1, 3, 6))["attention"]
    torch.testing.assert_close(share.sum(dim=1), torch.ones(1, 7))
