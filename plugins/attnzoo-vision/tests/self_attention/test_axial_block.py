from functools import partial

import pytest
import torch
import torch.nn.functional as F

import attnzoo
from attnzoo.errors import DialectError
from attnzoo_vision.self_attention.axial_block import AxialBlock


def normed(norm, x):
    """Apply a batch norm, whose running statistics stay as they are."""
    mean, var = (None, None) if norm.training else (norm.running_mean, norm.running_var)
    return F.batch_norm(x, mean, var, norm.weight, norm.bias, norm.training, eps=norm.eps)


def attended(layer, x):
    """Attend along the last axis of ``(N, C, M, L)``; ``R`` holds a row of each table for every pair of places."""
    n, _, m, size = x.shape
    g, d = layer.num_heads, layer.relative.shape[0] // 2
    y = normed(layer.qkv_norm, F.conv2d(x, layer.qkv.weight)).view(n, g, 2 * d, m, size)
    q, k, v = y.split([d // 2, d // 2, d], dim=2)
    step = torch.arange(size)[:, None] - torch.arange(size)
    rq, rk, rv = layer.relative[:, step + layer.kernel_size - 1].split([d // 2, d // 2, d])
    content = torch.einsum("ngdmi,ngdmj->nmgij", q, k)
    by_query = torch.einsum("ngdmi,dij->nmgij", q, rq)
    by_key = torch.einsum("ngdmj,dji->nmgij", k, rk)
    logits = normed(layer.logit_norm, torch.cat([content, by_query, by_key], dim=2).flatten(0, 1))
    weights = logits.view(n, m, 3, g, size, size).sum(dim=2).softmax(dim=4)
    sums = torch.einsum("nmgij,ngdmj->ngdmi", weights, v), torch.einsum("nmgij,dij->ngdmi", weights, rv)
    both = normed(layer.out_norm, torch.stack(sums, dim=3).reshape(n, 2 * g * d, m, size))
    return both[:, ::2] + both[:, 1::2]


def plain(block, x, stride=1):
    y = torch.relu(normed(block.reduce.norm, F.conv2d(x, block.reduce.conv.weight)))
    y = attended(block.height, y.transpose(2, 3)).transpose(2, 3)
    y = torch.relu(F.avg_pool2d(attended(block.width, y), stride))
    y = normed(block.expand.norm, F.conv2d(y, block.expand.conv.weight))
    if block.shortcut is not None:
        x = normed(block.shortcut.norm, F.conv2d(x, block.shortcut.conv.weight, stride=stride))
    return torch.relu(y + x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"stride": 2}], ids=str)
def test_it_is_the_formula(compare_stirred, options, training):
    channels = 8 * options.get("stride", 1)
    block = AxialBlock(8, out_channels=channels, hidden_channels=8, num_heads=2, kernel_size=7, **options)
    compare_stirred(block.train(training), partial(plain, **options), torch.randn(2, 8, 4, 6))


def test_it_starts_as_its_rectified_shortcut():
    block = AxialBlock(16, num_heads=2, kernel_size=6)
    x = torch.randn(2, 16, 6, 5)
    torch.testing.assert_close(block(x), torch.relu(x))


def test_stride_two_halves_the_map():
    block = AxialBlock(16, out_channels=24, hidden_channels=8, num_heads=2, kernel_size=6, stride=2)
    assert block(torch.randn(2, 16, 6, 4)).shape == (2, 24, 3, 2)


@pytest.mark.parametrize(
    ("norm_layer", "found"),
    [
        (
            {"call": "functools.partial", "args": ["torch.nn.BatchNorm2d"], "kwargs": {"eps": 1e-3}},
            "when: expression 'norm_layer is None or batch_norm(norm_layer)': norm {norm_layer!r}, expected none or a "
            "batch norm with torch's defaults",
        ),
        (
            "torch.nn.Identity",
            "does not hold for these arguments, expected norm_layer is None or batch_norm(norm_layer)",
        ),
    ],
)
def test_another_norm_of_the_authors_is_refused(tmp_path, norm_layer, found):
    block = attnzoo.create("axial-block", channels=16, num_heads=2, kernel_size=4)
    attnzoo.export(block, tmp_path / "a.safetensors", "csrhddlam")
    theirs = {"inplanes": 16, "planes": 8, "groups": 2, "kernel_size": 4, "norm_layer": norm_layer}
    with pytest.raises(DialectError) as caught:
        attnzoo.load_foreign(tmp_path / "a.safetensors", "axial-block", "csrhddlam", **theirs)
    assert str(caught.value) == f"dialect 'csrhddlam': {found.format(norm_layer=norm_layer)}"
