import pytest
import torch

from attnzoo_vision.self_attention.dat_deform_attn import DATDeformAttn


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
    with pytest.raises(ValueError, match=r"DATDeformAttn: map of \(4, 4\), expected feature_size=\[3, 4\]"):
        DATDeformAttn(8, [3, 4])(torch.zeros(1, 8, 4, 4))
