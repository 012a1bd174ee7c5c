import pytest
import torch

from attnzoo_vision.self_attention.ms_deform_attn import MSDeformAttn


def test_points_start_on_a_ray_of_each_head():
    bias = MSDeformAttn(16, num_heads=8, num_levels=1, num_points=2).offset.bias.view(8, 2, 2)
    torch.testing.assert_close(bias[0], torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
    torch.testing.assert_close(bias[1], torch.tensor([[1.0, 1.0], [2.0, 2.0]]))


def test_a_masked_position_counts_as_zero():
    torch.manual_seed(0)
    block = MSDeformAttn(8, num_heads=2, num_levels=1, level_shapes=[[2, 3]])
    query, reference, value = torch.randn(1, 4, 8), torch.rand(1, 4, 1, 2), torch.randn(1, 6, 8)
    mask = torch.tensor([[True, True, False, True, True, True]])
    changed = value.clone()
    changed[:, 2] += 5.0
    torch.testing.assert_close(block(query, reference, changed, mask), block(query, reference, value, mask))


def test_shapes_that_do_not_sum_are_refused():
    block = MSDeformAttn(8, num_levels=1, level_shapes=[[2, 3]])
    message = r"^MSDeformAttn: level_shapes=\[\(2, 3\)\] have 6 positions, value 5; give the sizes of its maps$"
    with pytest.raises(ValueError, match=message):
        block(torch.zeros(1, 4, 8), torch.zeros(1, 4, 1, 2), torch.zeros(1, 5, 8))


def test_a_reference_may_be_shared_by_the_levels():
    torch.manual_seed(0)
    block = MSDeformAttn(8, num_heads=2, num_levels=2, level_shapes=[[2, 3], [1, 2]])
    query, value = torch.randn(2, 4, 8), torch.randn(2, 8, 8)
    for numbers in (2, 4):
        reference = torch.rand(2, 4, 1, numbers)
        shared, repeated = block(query, reference, value), block(query, reference.expand(-1, -1, 2, -1), value)
        torch.testing.assert_close(shared, repeated, rtol=0, atol=0)


def test_another_number_of_levels_than_shapes_is_refused():
    message = r"^MSDeformAttn: num_levels=2 is not the number of level_shapes=\[\[2, 3\]\]; use num_levels=1$"
    with pytest.raises(ValueError, match=message):
        MSDeformAttn(8, num_levels=2, level_shapes=[[2, 3]])


def test_a_reference_that_is_no_point_and_no_box_is_refused():
    block = MSDeformAttn(8, num_levels=1, level_shapes=[[2, 3]])
    message = r"^MSDeformAttn: reference has 3 numbers, expected 2 \(point\) or 4 \(box\); "
    with pytest.raises(ValueError, match=message + r"give \(x, y\) or \(x, y, width, height\)$"):
        block(torch.zeros(1, 4, 8), torch.zeros(1, 4, 1, 3), torch.zeros(1, 6, 8))
