import pytest
import torch

from attnzoo_vision.ops.frames import window_sums
from attnzoo_vision.temporal.motion_excitation import MotionExcitation


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(5, 4), (1, 3), (1, 1)])
def test_the_weight_comes_from_the_difference_to_the_next_frame(training, size):
    block = MotionExcitation(8, 3, reduction=4).double()
    block.squeeze_norm.running_mean.normal_()
    block.squeeze_norm.weight.data.normal_()
    block.squeeze_norm.bias.data.normal_()
    block.excite_norm.bias.data.normal_()
    block.train(training)
    x = torch.randn(2 * 3, 8, *size).double()
    s = block.squeeze_norm(block.squeeze(x))
    change = block.transform(s).view(2, 3, 2, *size)[:, 1:] - s.view(2, 3, 2, *size)[:, :-1]
    mean = torch.cat([change.mean((3, 4)), torch.zeros(2, 1, 2)], 1).view(6, 2)
    weight = torch.sigmoid(block.excite_norm(block.excite(mean)))[:, :, None, None]
    torch.testing.assert_close(block(x), x + x * (weight - 0.5))


def test_window_sums_are_what_the_taps_of_a_convolution_see():
    x, w = torch.randn(2, 3, 4, 5).double(), torch.randn(3, 3, 3).double()
    conv = torch.nn.functional.conv2d(x, w[:, None], padding=1, groups=3)
    torch.testing.assert_close((window_sums(x) * w).sum((2, 3)), conv.sum((2, 3)))


def test_a_reduction_that_leaves_no_channel_is_refused():
    with pytest.raises(ValueError, match=r"^MotionExcitation: reduction=16 is above channels=8; use 8 or less$"):
        MotionExcitation(8, 3)
