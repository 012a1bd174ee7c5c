from functools import partial

import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.self_attention.dat_deform_attn import DATDeformAttn


def tents(place, size):
    """Return the weight of each of ``size`` pixels for places between -1, the first, and 1, the last: bilinear."""
    return torch.relu(1 - ((place[..., None] + 1) / 2 * (size - 1) - torch.arange(size)).abs())


def sample(x, place):
    """Return ``(B, C, P)``, the maps ``(B, C, H, W)`` at places ``(B, P, 2)``, zero beside the map."""
    rows, columns = (tents(place[..., i], x.shape[2 + i]) for i in (0, 1))
    return torch.einsum("bchw,bph,bpw->bcp", x, rows, columns)


def grid(sizes, spans, shift):
    axes = [(torch.arange(size) + shift).double() / span * 2 - 1 for size, span in zip(sizes, spans, strict=True)]
    return torch.cartesian_prod(*axes)


def points(block, query, form, reach):
    """Return the places that the queries of each group of heads ask for, ``(N * groups, points, 2)``."""
    query = query.unflatten(1, (block.groups, -1)).flatten(0, 1)
    conv = block.offset_conv
    hidden = F.conv2d(query, conv.weight, conv.bias, conv.stride, conv.padding, groups=query.shape[1])
    tokens = hidden.flatten(2).transpose(1, 2)
    norm = block.offset_norm
    tokens = F.gelu(F.layer_norm(tokens, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
    offset = F.linear(tokens, block.offset.weight)
    sizes = hidden.shape[2:]
    spans = sizes if form == "dat" else [size - 1 for size in sizes]
    regular = grid(sizes, spans, 0.5)
    if reach > 0:
        return offset.tanh() * reach / torch.tensor(spans) + regular
    if reach == 0:
        return offset + regular
    return (offset + regular).tanh() if form == "dat" else (offset + regular).clamp(-1, 1)


def logits_of(block, place, form, position):
    """Return the logits of relative places, ``(N, heads, L, points)``."""
    if position == "fixed":
        return block.table
    spans = [size - (form == "dat++") for size in block.feature_size]
    step = grid(block.feature_size, spans, 0.5 if form == "dat" else 0.0)[None, :, None] - place[:, None]
    if position == "log":
        step = (4 * step).sign() * ((4 * step).abs() + 1).log2() / 3
        hidden = torch.relu(F.linear(step, block.expand.weight, block.expand.bias))
        y = F.linear(hidden, block.contract.weight).permute(0, 3, 1, 2)
    else:
        tables = block.table.unflatten(0, (block.groups, -1)).repeat(len(step) // block.groups, 1, 1, 1)
        y = sample(tables, step.flatten(1, 2) / 2).unflatten(2, step.shape[1:3])
    return y.unflatten(0, (-1, block.groups)).flatten(1, 2)


def plain(block, x, form="dat++", reach=-1.0, position="table"):
    query = F.conv2d(x, block.query.weight, block.query.bias)
    place = points(block, query, form, reach)
    sampled = sample(x.unflatten(1, (block.groups, -1)).flatten(0, 1), place)
    tokens = sampled.unflatten(0, (-1, block.groups)).flatten(1, 2).transpose(1, 2)
    key, value = (F.linear(tokens, layer.weight, layer.bias) for layer in (block.key, block.value))
    q, k, v = (t.unflatten(2, (block.num_heads, -1)) for t in (query.flatten(2).transpose(1, 2), key, value))
    logits = torch.einsum("nigd,njgd->ngij", q, k) * q.shape[3] ** -0.5
    if position in ("table", "log", "fixed"):
        logits = logits + logits_of(block, place, form, position)
    y = torch.einsum("ngij,njgd->nigd", logits.softmax(dim=3), v).flatten(2)
    if position == "depthwise":
        local = F.conv2d(query, block.local.weight, block.local.bias, padding=1, groups=query.shape[1])
        y = y + local.flatten(2).transpose(1, 2)
    return F.linear(y, block.projection.weight, block.projection.bias).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize(
    ("form", "reach", "position"),
    [
        ("dat++", -1.0, "table"),
        ("dat++", 1.5, "log"),
        ("dat++", 2.0, "table"),
        ("dat", -1.0, "table"),
        ("dat", 0.0, "table"),
        ("dat", 2.0, "fixed"),
        ("dat", -1.0, "depthwise"),
        ("dat", 0.0, "none"),
    ],
)
def test_it_is_the_formula(compare_stirred, form, reach, position):
    block = DATDeformAttn(
        8, [4, 6], num_heads=4, groups=2, stride=2, kernel_size=3, form=form, offset_range=reach, position=position
    )
    compare_stirred(block, partial(plain, form=form, reach=reach, position=position), torch.randn(2, 8, 4, 6))


@pytest.mark.parametrize("form", ["dat", "dat++"])
def test_without_offsets_the_points_are_the_grid(form):
    block = DATDeformAttn(8, [4, 6], num_heads=2, stride=2, kernel_size=3, form=form, offset_range=1.0).double()
    torch.nn.init.zeros_(block.offset.weight)
    maps = block.attention(torch.randn(2, 8, 4, 6, dtype=torch.float64))
    torch.testing.assert_close(maps["place"], maps["grid"])
    first, last = maps["grid"][0, 0, 0, 0, 0], maps["grid"][0, 0, -1, 0, 0]
    assert (first, last) == ((-0.5, 0.5) if form == "dat" else (0.0, 2.0))


def test_a_zero_table_and_grid_points_give_attention_to_the_pixels():
    torch.manual_seed(0)
    block = DATDeformAttn(8, [3, 4], num_heads=2, deform=False, stride=1, kernel_size=3).double()
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    tokens = x.flatten(2).transpose(1, 2)
    q = block.query(x).flatten(2).transpose(1, 2)
    q, k, v = (t.view(2, 12, 2, 4).transpose(1, 2) for t in (q, block.key(tokens), block.value(tokens)))
    y = ((q @ k.transpose(2, 3) * 0.5).softmax(3) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(block(x), block.projection(y).transpose(1, 2).view(2, 8, 3, 4))


def test_another_size_is_refused():
    message = r"^DATDeformAttn: map of \[4, 4\], expected feature_size=\[3, 4\]; resize it, or build with it$"
    with pytest.raises(ValueError, match=message):
        DATDeformAttn(8, [3, 4])(torch.zeros(1, 8, 4, 4))


@pytest.mark.parametrize(
    ("options", "points", "found"),
    [({"feature_size": 7, "stride": 2, "kernel_size": 5}, 9, 16), ({"feature_size": 6, "kernel_size": 4}, 36, 49)],
)
def test_fixed_positions_of_other_points_than_there_are_are_refused(options, points, found):
    message = f"^DATDeformAttn: position='fixed' has a table of {points} points, found {found}; use an odd kernel_size "
    with pytest.raises(ValueError, match=message + "and a feature_size that stride divides$"):
        DATDeformAttn(8, position="fixed", **options)
    DATDeformAttn(8, position="fixed", form="dat", **options)
