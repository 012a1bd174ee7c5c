import torch

from attnzoo_sequence.pooling.han_attention import HANAttention


def test_equals_the_formula() -> None:
    torch.manual_seed(0)
    block = HANAttention(6, hidden_channels=4).double()
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    weight = (block.hidden(x).tanh() @ block.context).softmax(dim=1)
    torch.testing.assert_close(block(x), torch.einsum("nm,nmc->nc", weight, x))


def test_padding_takes_no_weight() -> None:
    torch.manual_seed(0)
    block = HANAttention(6)
    x = torch.randn(1, 5, 6)
    torch.testing.assert_close(block(x, torch.tensor([[True] * 3 + [False] * 2])), block(x[:, :3]))
