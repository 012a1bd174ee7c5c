import pytest
import torch

from attnzoo_vision.self_attention.swin_block import SwinBlock


def test_tokens_across_the_cyclic_shift_do_not_see_each_other():
    torch.manual_seed(0)
    block = SwinBlock(8, num_heads=2, window_size=4, shift=2).eval()
    x = torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[:, 0, 0, 0] += 1.0
    difference = (block(changed) - block(x)).abs().amax((0, 3)) > 1e-9
    assert difference[:2, :2].all()
    assert not difference[2:].any()
    assert not difference[:, 2:].any()


def test_a_map_that_does_not_divide_is_filled_up():
    assert SwinBlock(8, num_heads=2, window_size=4, shift=2)(torch.randn(2, 5, 9, 8)).shape == (2, 5, 9, 8)


def test_a_shift_of_a_whole_window_is_refused():
    with pytest.raises(ValueError, match="SwinBlock: shift=4 is not below window_size=4"):
        SwinBlock(8, window_size=4, shift=4)
