import pytest
import torch

from attnzoo_vision.self_attention.ms_deform_core import MSDeformCore


def test_a_place_in_the_middle_of_a_pixel_reads_it_and_outside_is_zero():
    block = MSDeformCore(level_shapes=[[2, 2], [1, 1]])
    value = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0]).view(1, 5, 1, 1)
    place = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).view(1, 1, 1, 2, 1, 2)
    weight = torch.tensor([0.5, 2.0]).view(1, 1, 1, 2, 1)
    torch.testing.assert_close(block(value, place, weight), torch.tensor([[[0.5 * 2.0 + 2.0 * 10.0]]]))
    torch.testing.assert_close(block(value, place + 3.0, weight), torch.zeros(1, 1, 1))


def test_places_may_lie_anywhere_in_memory():
    torch.manual_seed(0)
    block = MSDeformCore(level_shapes=[[4, 3], [2, 2]])
    value, place, weight = torch.randn(2, 16, 2, 3), torch.rand(2, 5, 2, 2, 3, 2), torch.rand(2, 5, 2, 2, 3)
    odd = torch.cat([torch.zeros(1), place.flatten()])[1:].view(place.shape)
    swapped = place.transpose(0, 1).contiguous().transpose(0, 1)
    split = place.movedim(-1, 0).contiguous().movedim(0, -1)
    for other in (odd, swapped, split):
        torch.testing.assert_close(block(value, other, weight), block(value, place, weight), rtol=0, atol=0)


def test_places_are_centred_before_they_are_rounded():
    torch.manual_seed(0)
    block = MSDeformCore(level_shapes=[[64, 64]])
    value, weight = torch.randn(1, 64 * 64, 1, 8), torch.ones(1, 50, 1, 1, 1)
    place = 0.5 + 0.02 * torch.randn(1, 50, 1, 1, 1, 2)
    exact = block(value, place, weight)
    with torch.autocast("cpu", torch.bfloat16):
        error = block(value.bfloat16(), place, weight.bfloat16()).float() - exact
    assert error.square().mean().sqrt() < 0.01 * exact.std()


def test_missing_shapes_are_refused():
    with pytest.raises(ValueError, match="MSDeformCore: no level_shapes; give them to the constructor or the call"):
        MSDeformCore()(torch.zeros(1, 4, 1, 1), torch.zeros(1, 1, 1, 1, 1, 2), torch.zeros(1, 1, 1, 1, 1))
