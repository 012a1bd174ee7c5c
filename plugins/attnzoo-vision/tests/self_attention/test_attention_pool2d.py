import pytest
import torch

from attnzoo_vision.self_attention.attention_pool2d import AttentionPool2d


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_formula(bias):
    torch.manual_seed(0)
    block = AttentionPool2d(8, [3, 4], num_heads=2, bias=bias).double()
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    tokens = torch.cat([x.mean((2, 3))[:, None], x.flatten(2).transpose(1, 2)], 1) + block.position
    q, k, v = (t.view(2, 13, 2, 4).transpose(1, 2) for t in block.qkv(tokens).chunk(3, 2))
    y = ((q @ k.transpose(2, 3) / 2).softmax(3) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(block(x), block.projection(y[:, 0]))
    block.pool = False
    torch.testing.assert_close(block(x), block.projection(y)[:, 1:].transpose(1, 2).view(2, 8, 3, 4))


def test_by_count_the_sides_of_the_map_do_not_matter():
    torch.manual_seed(0)
    block = AttentionPool2d(8, 4, num_heads=2, by_count=True)
    x = torch.randn(2, 8, 2, 8)
    torch.testing.assert_close(block(x), block(x.view(2, 8, 4, 4)))
    block.by_count = False
    assert (block(x) - block(x.view(2, 8, 4, 4))).abs().max() > 1e-4
    assert AttentionPool2d(8, 4, by_count=True)(torch.randn(2, 8, 6, 3)).shape == (2, 8)


def test_positions_are_resized_to_another_map():
    assert AttentionPool2d(8, 4, out_channels=5)(torch.randn(2, 8, 6, 3)).shape == (2, 5)
