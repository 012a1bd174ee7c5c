import pytest
import torch

from attnzoo_vision.self_attention.axial_attention import AxialAttention


def lines(block, axis, x):
    """Attend along the second last axis of ``(..., length, channels)``."""
    q, k, v = (t.unflatten(-1, (block.num_heads, -1)).transpose(-3, -2) for t in block.qkv[axis](x).chunk(3, -1))
    weight = (q @ k.transpose(-2, -1) * block.scale).softmax(-1)
    return block.projection[axis]((weight @ v).transpose(-3, -2).flatten(-2))


@pytest.mark.parametrize("combine", ["sum", "chain"])
def test_it_is_the_formula(combine):
    torch.manual_seed(0)
    block = AxialAttention(6, num_heads=2, combine=combine).double()
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    rows = x.permute(0, 3, 2, 1)
    high = lines(block, 0, rows).permute(0, 2, 1, 3)
    wide = lines(block, 1, high if combine == "chain" else x.permute(0, 2, 3, 1))
    expected = wide if combine == "chain" else high + wide
    torch.testing.assert_close(block(x), expected.permute(0, 3, 1, 2))


def test_three_axes_with_channels_last():
    block = AxialAttention(6, num_heads=2, num_axes=3, channel_axis=-1)
    assert block(torch.randn(2, 3, 4, 5, 6)).shape == (2, 3, 4, 5, 6)


@pytest.mark.parametrize("place", [4, 0, -4])
def test_a_channel_axis_beyond_the_input_is_refused(place):
    message = f"AxialAttention: channel_axis={place} is not one of the 3 axes behind the batch; "
    with pytest.raises(ValueError, match=f"^{message}use 1 to 3, or count from the end, -1 the last$"):
        AxialAttention(8, channel_axis=place)


def test_an_input_of_other_axes_is_refused():
    message = "AxialAttention: input of 3 axes, expected 4; build it with num_axes=1"
    with pytest.raises(ValueError, match=f"^{message}$"):
        AxialAttention(8)(torch.zeros(1, 8, 4))
