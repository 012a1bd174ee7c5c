import torch

from attnzoo_vision.self_attention.swin_window_attention import SwinWindowAttention


def test_it_is_the_formula():
    torch.manual_seed(0)
    block = SwinWindowAttention(6, [2, 3], num_heads=2).double()
    x = torch.randn(4, 6, 6, dtype=torch.float64)
    bias = torch.randn(2, 6, 6, dtype=torch.float64)
    q, k, v = (t.view(4, 6, 2, 3).transpose(1, 2) for t in block.qkv(x).chunk(3, 2))
    logits = q @ k.transpose(2, 3) * 3**-0.5
    for i in range(6):
        for j in range(6):
            down, right = i // 3 - j // 3, i % 3 - j % 3
            logits[:, :, i, j] += block.table[(down + 1) * 5 + right + 2]
    logits = logits + bias.repeat(2, 1, 1)[:, None]
    expected = block.projection((logits.softmax(3) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(x, bias), expected)
