import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.self_attention.halo_attention import HaloAttention


def plain(block, x, masked):
    """One query at a time, every window position visited."""
    n, _, height, width = x.shape
    size, halo, heads, d = block.block_size, block.halo_size, block.num_heads, block.head_dim
    q = F.linear(x.permute(0, 2, 3, 1), block.query.weight).unflatten(3, (heads, d))
    kv = F.linear(x.permute(0, 2, 3, 1), block.key_value.weight).unflatten(3, (heads, d + block.value_dim))
    out = torch.zeros(n, height, width, heads, block.value_dim, dtype=x.dtype)
    for row in range(height):
        for column in range(width):
            logits, values = [], []
            query = q[:, row, column]
            for i in range(block.window_size):
                for j in range(block.window_size):
                    y, z = row // size * size - halo + i, column // size * size - halo + j
                    inside = 0 <= y < height and 0 <= z < width
                    if masked and not inside:
                        continue
                    pair = kv[:, y, z] if inside else torch.zeros_like(kv[:, 0, 0])
                    last = block.window_size - 1
                    place = block.height[i - row % size + last] + block.width[j - column % size + last]
                    content = block.scale * (query * pair[..., :d]).sum(2)
                    logits.append(content + block.position_scale * (query @ place))
                    values.append(pair[..., d:])
            weight = torch.stack(logits, 2).softmax(2)
            out[:, row, column] = torch.einsum("ngj,jnge->nge", weight, torch.stack(values))
    return out.flatten(3)


@pytest.mark.parametrize("head_dim", [4, 20])
def test_it_is_the_formula_with_padding_attended(head_dim):
    torch.manual_seed(0)
    block = HaloAttention(6, out_channels=6, num_heads=2, head_dim=head_dim, block_size=2, halo_size=1).double()
    x = torch.randn(2, 6, 4, 2, dtype=torch.float64)
    torch.testing.assert_close(block(x).permute(0, 2, 3, 1), plain(block, x, masked=False))


@pytest.mark.parametrize("head_dim", [4, 20])
def test_masked_padding_gets_no_weight(head_dim):
    torch.manual_seed(0)
    options = {"mask_padding": True, "projection": True}
    block = HaloAttention(6, num_heads=2, head_dim=head_dim, block_size=2, halo_size=1, **options).double()
    x = torch.randn(2, 6, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(block(x).permute(0, 2, 3, 1), block.projection(plain(block, x, masked=True)))


def test_a_map_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"^HaloAttention: block_size=4 does not divide the map of 6x8; pad it$"):
        HaloAttention(8, block_size=4)(torch.zeros(1, 8, 6, 8))
