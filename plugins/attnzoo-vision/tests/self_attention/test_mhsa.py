import re

import pytest
import torch

import attnzoo
from attnzoo.errors import DialectError
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


def test_a_mask_of_three_axes_is_one_for_each_sample():
    block, x = MHSA(8, num_heads=2), torch.randn(2, 5, 8)
    mask = torch.rand(2, 5, 5) > 0.5
    mask |= torch.eye(5, dtype=torch.bool)
    each = torch.cat([block(x[i : i + 1], mask[i]) for i in range(2)])
    torch.testing.assert_close(block(x, mask), each)
    torch.testing.assert_close(block(x, mask[:, None].expand(-1, 2, -1, -1)), each)


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 5, 5), (3, 5, 4), (1, 3, 5, 5), (2, 2, 5, 5, 1)])
def test_a_mask_of_another_shape_is_refused(shape):
    block, mask = MHSA(8, num_heads=2), torch.ones(shape, dtype=torch.bool)
    message = (
        f"MHSA: mask of shape {shape}, expected (L, L), (N, L, L) or (N, heads, L, L) with N=1, heads=2 and L=5; "
        "give it all axes, of size 1 where they do not matter"
    )
    for call in (block, block.attention):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call(torch.ones(1, 5, 8), mask)


@pytest.mark.parametrize("kind", ["bool", "numbers"])
def test_a_token_that_attends_to_nothing_reads_zeros(kind):
    block, x = MHSA(8, num_heads=2), torch.randn(2, 5, 8, requires_grad=True)
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[1, :, 2] = False
    given = mask if kind == "bool" else torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
    pairwise = block.attention(x, given)["pairwise"]
    assert (pairwise[1, :, 2] == 0).all()
    torch.testing.assert_close(block(x, given)[1, 2], block.projection.bias)
    value = block.qkv(x).chunk(3, 2)[2].view(2, 5, 2, 4).transpose(1, 2)
    torch.testing.assert_close(block(x, given), block.projection((pairwise @ value).transpose(1, 2).flatten(2)))
    (gradient,) = torch.autograd.grad(pairwise.square().sum(), x)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("norm_layer", ["timm.layers.SimpleNorm", "timm.layers.RmsNorm2d", "torch.nn.Identity"])
def test_another_norm_of_timm_is_refused(tmp_path, norm_layer):
    attnzoo.export(attnzoo.create("mhsa", embed_dim=8, qk_norm=True, norm="rms"), tmp_path / "a.safetensors", "timm")
    theirs = {"dim": 8, "qkv_bias": True, "norm_layer": norm_layer}
    with pytest.raises(DialectError, match=r"^dialect 'timm': does not hold for these arguments, "):
        attnzoo.load_foreign(tmp_path / "a.safetensors", "mhsa", "timm", **theirs, qk_norm=True)


def test_a_norm_of_timm_that_is_not_asked_for_does_not_matter(tmp_path):
    block = attnzoo.create("mhsa", embed_dim=8)
    attnzoo.export(block, tmp_path / "a.safetensors", "timm")
    theirs = {"dim": 8, "qkv_bias": True, "norm_layer": "timm.layers.SimpleNorm"}
    loaded, x = attnzoo.load_foreign(tmp_path / "a.safetensors", "mhsa", "timm", **theirs), torch.randn(2, 5, 8)
    torch.testing.assert_close(loaded(x), block(x))
