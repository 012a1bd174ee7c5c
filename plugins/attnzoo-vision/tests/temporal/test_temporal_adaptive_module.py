import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.ops.frames import filter_frames
from attnzoo_vision.temporal.temporal_adaptive_module import TemporalAdaptiveModule


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_frames_are_scaled_and_convolved_along_time(kernel_size):
    block = TemporalAdaptiveModule(8, 4, kernel_size=kernel_size).double().eval()
    x = torch.randn(2 * 4, 8, 3, 5).double()
    clip = x.view(2, 4, 8, 15).transpose(1, 2)
    p = clip.mean(-1)
    kernel = block.kernel(torch.relu(block.kernel_norm(block.kernel_hidden(p.flatten(0, 1))))).softmax(-1)
    scale = torch.sigmoid(block.scale(torch.relu(block.scale_norm(block.scale_hidden(p)))))
    scaled = (clip * scale[..., None]).reshape(1, 16, 4, 15)
    y = F.conv2d(scaled, kernel.view(16, 1, kernel_size, 1), padding=(kernel_size // 2, 0), groups=16)
    torch.testing.assert_close(block(x), y.view(2, 8, 4, 3, 5).transpose(1, 2).reshape(8, 8, 3, 5))


def test_a_clip_that_is_cut_is_refused():
    message = r"^TemporalAdaptiveModule: the input has 7 frames, expected a multiple of num_frames=4; give whole clips$"
    with pytest.raises(ValueError, match=message):
        TemporalAdaptiveModule(8, 4)(torch.randn(7, 8, 3, 3))


def test_the_gradients_of_the_shifted_sums_are_exact():
    x = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    taps = [torch.randn(2, t, 3, 1, 1, dtype=torch.float64, requires_grad=True) for t in (4, 4, 1, 4, 1)]
    assert torch.autograd.gradcheck(lambda x, *taps: filter_frames(x, taps), (x, *taps))
