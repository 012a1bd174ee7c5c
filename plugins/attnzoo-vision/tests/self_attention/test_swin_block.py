from functools import partial

import pytest
import torch
import torch.nn.functional as F

import attnzoo
from attnzoo.errors import DialectError
from attnzoo_vision.self_attention.swin_block import SwinBlock


def pairs_of(size, window, shift):
    """Say of all pairs of places on an axis: in one window, on one side of the cyclic shift, and how far apart."""
    shift = shift if size > window else 0
    place = torch.arange(size)
    moved, wrapped = (place - shift) % size, place < shift
    together = moved[:, None] // window == moved // window
    return together, wrapped[:, None] == wrapped, moved[:, None] % window - moved % window


def plain(block, x, window, shift):
    """Attend over all pairs of tokens of the filled-up map, those of different windows having no weight."""
    n, h, w, c = x.shape
    high, wide = (-(-size // part) * part for size, part in zip((h, w), window, strict=True))
    layer = block.attend
    tokens = F.layer_norm(x, (c,), block.norm1.weight, block.norm1.bias, block.norm1.eps)
    tokens = F.pad(tokens, (0, 0, 0, wide - w, 0, high - h)).flatten(1, 2)
    heads = F.linear(tokens, layer.qkv.weight, layer.qkv.bias).view(n, high * wide, 3, layer.num_heads, -1)
    q, k, v = heads.unbind(2)
    logits = torch.einsum("nigd,njgd->ngij", q, k) * q.shape[3] ** -0.5
    down, right = (pairs_of(*axis) for axis in zip((high, wide), window, shift, strict=True))
    # pairs of rows times pairs of columns are pairs of tokens
    together, beside = (down[i][:, None, :, None] & right[i][None, :, None, :] for i in (0, 1))
    place = (down[2] + window[0] - 1)[:, None, :, None] * (2 * window[1] - 1) + (right[2] + window[1] - 1)[:, None]
    together, beside, place = (t.reshape(high * wide, high * wide) for t in (together, beside, place))
    logits = logits + layer.table[place * together].permute(2, 0, 1) - 100.0 * ~beside
    weights = logits.masked_fill(~together, float("-inf")).softmax(dim=3)
    y = F.linear(torch.einsum("ngij,njgd->nigd", weights, v).flatten(2), layer.projection.weight, layer.projection.bias)
    z = x + y.view(n, high, wide, c)[:, :h, :w]
    y = F.layer_norm(z, (c,), block.norm2.weight, block.norm2.bias, block.norm2.eps)
    y = F.gelu(F.linear(y, block.expand.weight, block.expand.bias))
    return z + F.linear(y, block.contract.weight, block.contract.bias)


@pytest.mark.parametrize(
    ("window", "shift", "size"),
    [([2, 3], [0, 0], (4, 6)), ([2, 3], [1, 2], (6, 6)), ([3, 2], [1, 1], (5, 7)), ([4, 3], [2, 1], (3, 5))],
    ids=["plain", "shifted", "filled up", "one window high"],
)
def test_it_is_the_formula(compare_stirred, window, shift, size):
    block = SwinBlock(6, num_heads=2, window_size=window, shift=shift, mlp_ratio=1.5)
    compare_stirred(block, partial(plain, window=window, shift=shift), torch.randn(2, *size, 6))


def test_tokens_across_the_cyclic_shift_do_not_see_each_other():
    torch.manual_seed(0)
    block = SwinBlock(8, num_heads=2, window_size=4, shift=2).eval()
    x = torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[:, 0, 0, 0] += 1.0
    difference = (block(changed) - block(x)).abs().amax((0, 3)) > 1e-9
    assert difference[:2, :2].all()
    assert not difference[2:].any()
    assert not difference[:, 2:].any()


def test_a_map_that_does_not_divide_is_filled_up():
    assert SwinBlock(8, num_heads=2, window_size=4, shift=2)(torch.randn(2, 5, 9, 8)).shape == (2, 5, 9, 8)


def test_a_shift_of_a_whole_window_is_refused():
    with pytest.raises(ValueError, match=r"^SwinBlock: shift=4 is not below window_size=4; use half of it, or 0$"):
        SwinBlock(8, window_size=4, shift=4)


def test_a_window_of_three_axes_is_refused():
    message = (
        r"^SwinBlock: window_size=\[2, 2, 2\] has not two numbers; give a height and a width, or one number for both$"
    )
    with pytest.raises(ValueError, match=message):
        SwinBlock(8, window_size=[2, 2, 2])


TIMM = {"dim": 8, "input_resolution": [4, 8], "num_heads": 2, "window_size": 4, "shift_size": 2}
TORCHVISION = {"dim": 8, "num_heads": 2, "window_size": [4, 4], "shift_size": [2, 2]}


def foreign_block(path, dialect, theirs):
    block = attnzoo.create("swin-block", embed_dim=8, num_heads=2, window_size=4, shift=2)
    attnzoo.export(block, path / "a.safetensors", dialect)
    return attnzoo.load_foreign(path / "a.safetensors", "swin-block", dialect, **theirs)


def test_a_window_of_two_sizes_of_timm_is_read(tmp_path):
    assert foreign_block(tmp_path, "timm", {**TIMM, "window_size": [4, 4]}).window_size == (4, 4)


@pytest.mark.parametrize(
    ("dialect", "theirs"),
    [
        ("timm", {**TIMM, "always_partition": True}),
        ("timm", {**TIMM, "input_resolution": [6, 8]}),
        ("torchvision", {**TORCHVISION, "attn_layer": "torchvision.models.swin_transformer.ShiftedWindowAttentionV2"}),
    ],
    ids=["a shift along an axis of one window", "a map that does not divide", "attention by cosines"],
)
def test_what_this_block_does_not_compute_is_refused(tmp_path, dialect, theirs):
    with pytest.raises(DialectError, match=rf"^dialect '{dialect}': does not hold for these arguments, "):
        foreign_block(tmp_path, dialect, theirs)
