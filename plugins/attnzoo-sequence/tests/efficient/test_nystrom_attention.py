import pytest
import torch

from attnzoo_sequence.efficient.nystrom_attention import NystromAttention


def random_block(**arguments: int) -> NystromAttention:
    torch.manual_seed(0)
    block = NystromAttention(8, num_heads=2, **arguments).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return block


def test_as_many_landmarks_as_tokens_are_exact_attention() -> None:
    block = random_block(num_landmarks=6, conv_kernel_size=3)
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    query, key, value = (p(x).view(2, 6, 2, 4).transpose(1, 2) for p in (block.query, block.key, block.value))
    assert block.conv is not None
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value) + block.conv(value)
    torch.testing.assert_close(block(x), wanted.transpose(1, 2).flatten(2))


def test_forward_equals_its_weights_for_lengths_that_landmarks_do_not_divide() -> None:
    block = random_block(num_landmarks=4, conv_kernel_size=3)
    x, mask = torch.randn(2, 10, 8, dtype=torch.float64), torch.rand(2, 10) < 0.7
    value = block.value(x).view(2, 10, 2, 4).transpose(1, 2)
    assert block.conv is not None
    wanted = block.attention(x, mask)["attention"] @ value + block.conv(value * mask[:, None, :, None])
    torch.testing.assert_close(block(x, mask), wanted.transpose(1, 2).flatten(2))


def test_padding_in_whole_segments_changes_nothing() -> None:
    block = random_block(num_landmarks=3, conv_kernel_size=3)
    x = torch.randn(1, 9, 8, dtype=torch.float64)
    longer = torch.cat([x, torch.randn(1, 3, 8, dtype=torch.float64)], dim=1)
    mask = torch.tensor([[True] * 9 + [False] * 3])
    block.num_landmarks = 4
    padded = block(longer, mask)[:, :9]
    block.num_landmarks = 3
    torch.testing.assert_close(padded, block(x))


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^NystromAttention: conv_kernel_size=4 is even; take an odd one$"):
        NystromAttention(8, num_heads=2, conv_kernel_size=4)
