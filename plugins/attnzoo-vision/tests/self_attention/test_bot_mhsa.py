import pytest
import torch

from attnzoo_vision.self_attention.bot_mhsa import BotMHSA


def plain(block, x):
    n, _, h, w = x.shape
    qkv = torch.einsum("oc,nchw->nohw", block.qkv.weight, x).flatten(2)
    q, k, v = (t.view(n, block.num_heads, -1, h * w).transpose(2, 3) for t in qkv.chunk(3, dim=1))
    logits = block.scale * q @ k.transpose(2, 3)
    for i in range(h * w):
        for j in range(h * w):
            down, right = j // w - i // w, j % w - i % w
            place = block.height[down + h - 1] + block.width[right + w - 1]
            logits[:, :, i, j] += block.position_scale * (q[:, :, i] @ place)
    return (logits.softmax(3) @ v).transpose(2, 3).reshape(n, -1, h, w)


@pytest.mark.parametrize("scale_position", [True, False])
def test_it_is_the_formula(scale_position):
    torch.manual_seed(0)
    block = BotMHSA(8, [3, 4], num_heads=2, scale_position=scale_position).double()
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(block(x), plain(block, x))


def test_absolute_places_are_added_to_the_keys():
    torch.manual_seed(0)
    block = BotMHSA(6, [2, 3], num_heads=1, position="absolute").double()
    x = torch.randn(1, 6, 2, 3, dtype=torch.float64)
    q, k, v = torch.einsum("oc,nchw->nohw", block.qkv.weight, x).flatten(2).transpose(1, 2).chunk(3, dim=2)
    place = (block.height[:, None] + block.width[None]).flatten(0, 1)
    expected = (block.scale * q @ (k + place).transpose(1, 2)).softmax(2) @ v
    torch.testing.assert_close(block(x).flatten(2).transpose(1, 2), expected)


def test_a_map_larger_than_the_tables_is_refused():
    message = r"^BotMHSA: map of 5x4 is larger than feature_size=\[4, 4\]; build it with a larger one$"
    with pytest.raises(ValueError, match=message):
        BotMHSA(8, 4)(torch.zeros(1, 8, 5, 4))
