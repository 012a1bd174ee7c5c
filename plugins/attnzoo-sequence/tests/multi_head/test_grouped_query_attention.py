import pytest
import torch

from attnzoo_sequence.multi_head.grouped_query_attention import GroupedQueryAttention


def turned(x, base, layout):
    """Rotary positions by complex numbers: (n, h, l, d)."""
    pairs = x.shape[-1] // 2
    angle = torch.arange(x.shape[2]).double()[:, None] * base ** (-torch.arange(pairs).double() / pairs)
    turn = torch.polar(torch.ones_like(angle), angle)
    if layout == "interleaved":
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (pairs, 2))) * turn).flatten(-2)
    result = torch.complex(x[..., :pairs], x[..., pairs:]) * turn
    return torch.cat([result.real, result.imag], -1)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_it_is_the_formula(layout, groups):
    torch.manual_seed(0)
    block = GroupedQueryAttention(16, 4, num_kv_heads=groups, rotary_base=100.0, rotary_layout=layout).double()
    x = torch.randn(2, 6, 16).double()
    q = turned(block.query(x).unflatten(-1, (4, 4)).transpose(1, 2), 100.0, layout)
    k = turned(block.key(x).unflatten(-1, (groups, 4)).transpose(1, 2), 100.0, layout)
    v = block.value(x).unflatten(-1, (groups, 4)).transpose(1, 2)
    seen = torch.ones(6, 6).tril().bool()
    heads = [
        (q[:, h] @ k[:, h * groups // 4].mT / 2).masked_fill(~seen, -torch.inf).softmax(-1) @ v[:, h * groups // 4]
        for h in range(4)
    ]
    torch.testing.assert_close(block(x), block.output(torch.cat(heads, -1)))


def test_the_layouts_agree_after_the_permutation_of_the_rows_of_queries_and_keys():
    torch.manual_seed(0)
    half = GroupedQueryAttention(16, 4, num_kv_heads=2).double()
    interleaved = GroupedQueryAttention(16, 4, num_kv_heads=2, rotary_layout="interleaved").double()
    interleaved.load_state_dict(half.state_dict())
    x = torch.randn(2, 6, 16).double()
    assert not torch.allclose(half(x), interleaved(x))
    with torch.no_grad():
        for linear in (interleaved.query, interleaved.key):
            linear.weight.copy_(linear.weight.unflatten(0, (-1, 2, 2)).transpose(1, 2).flatten(0, 2))
    torch.testing.assert_close(half(x), interleaved(x))


def test_scores_depend_on_distances_alone():
    torch.manual_seed(0)
    block = GroupedQueryAttention(16, 4).double()
    x = torch.randn(1, 5, 16).double()
    query, key, _ = block.project(x)
    later_query, later_key, _ = block.project(x, 7)
    torch.testing.assert_close(query @ key.mT, later_query @ later_key.mT)


def test_groups_that_do_not_divide_the_heads_are_refused():
    with pytest.raises(
        ValueError,
        match=r"^GroupedQueryAttention: num_kv_heads=3 does not divide num_heads=4; use num_kv_heads=2 or 4$",
    ):
        GroupedQueryAttention(16, 4, num_kv_heads=3)


@pytest.mark.parametrize("widths", [{"embed_dim": 12}, {"embed_dim": 16, "head_dim": 3}])
def test_heads_of_an_odd_width_are_refused_where_pairs_of_channels_turn(widths):
    found = "heads of 3 channels, expected an even number, as rotary positions turn pairs"
    advice = "choose embed_dim, num_heads or head_dim so, or rotary_base=None"
    with pytest.raises(ValueError, match=f"^GroupedQueryAttention: {found}; {advice}$"):
        GroupedQueryAttention(**widths, num_heads=4)
    block = GroupedQueryAttention(**widths, num_heads=4, rotary_base=None)
    assert block(torch.randn(2, 5, widths["embed_dim"])).shape == (2, 5, widths["embed_dim"])
