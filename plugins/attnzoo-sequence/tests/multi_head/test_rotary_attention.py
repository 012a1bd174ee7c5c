import pytest
import torch

from attnzoo_sequence.multi_head.rotary_attention import RotaryAttention


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("rotary_dim", [2, 4, 6])
@pytest.mark.parametrize("values", [False, True])
def test_it_is_the_formula(layout, rotary_dim, values):
    torch.manual_seed(0)
    block = RotaryAttention(12, 2, rotary_dim=rotary_dim, rotary_layout=layout, rotate_values=values).double()
    x = torch.randn(1, 5, 12).double()
    q, k, v = (t.unflatten(-1, (2, 6)) for t in block.in_proj(x).chunk(3, -1))
    q, k = turned(q, rotary_dim, layout), turned(k, rotary_dim, layout)
    v = turned(v, rotary_dim, layout) if values else v
    weights = (torch.einsum("nihd,njhd->nhij", q, k) / 6**0.5).softmax(-1)
    read = torch.einsum("nhij,njhd->nihd", weights, v).flatten(2)
    torch.testing.assert_close(block(x), block.output(read))
    torch.testing.assert_close(block.attention(x)["attention"], weights)


def turned(x, rotary_dim, layout):
    """Turn pair by pair."""
    result = x.clone()
    for position in range(x.shape[1]):
        for pair in range(rotary_dim // 2):
            first, second = (pair, pair + rotary_dim // 2) if layout == "half" else (2 * pair, 2 * pair + 1)
            angle = torch.tensor(position * 10000.0 ** (-2 * pair / rotary_dim)).double()
            a, b = x[:, position, :, first], x[:, position, :, second]
            result[:, position, :, first] = a * angle.cos() - b * angle.sin()
            result[:, position, :, second] = b * angle.cos() + a * angle.sin()
    return result


def test_an_odd_rotary_dim_is_refused():
    with pytest.raises(ValueError, match=r"^RotaryAttention: rotary_dim=3 must be even and at most 6, one head$"):
        RotaryAttention(12, 2, rotary_dim=3)
