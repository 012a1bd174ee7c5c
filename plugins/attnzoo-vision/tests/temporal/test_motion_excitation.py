import pytest
import torch
from torch import nn

import attnzoo
from attnzoo_vision.ops.frames import window_means
from attnzoo_vision.temporal.motion_excitation import MotionExcitation


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(5, 4), (1, 3), (1, 1)])
def test_the_weight_comes_from_the_difference_to_the_next_frame(training, size, biased):
    block = MotionExcitation(8, 3, reduction=4).double()
    if biased:
        for layer in (block.squeeze, block.transform):
            layer.bias = nn.Parameter(torch.randn(2).double())
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


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(4, 5), (20, 17)])
def test_window_means_are_what_the_taps_of_a_convolution_see(size, layout):
    x, w = torch.randn(2, 3, *size).double().contiguous(memory_format=layout), torch.randn(3, 3, 3).double()
    conv = torch.nn.functional.conv2d(x, w[:, None], padding=1, groups=3)
    torch.testing.assert_close((window_means(x) * w).sum((2, 3)), conv.mean((2, 3)))


@pytest.mark.parametrize("size", [(4, 6), (17, 20)])
def test_an_exported_block_takes_maps_of_other_sizes(size):
    torch.manual_seed(0)
    block = MotionExcitation(8, 3, reduction=4).eval()
    block.squeeze_norm.bias.data.normal_()
    axes = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    exported = torch.export.export(block, (torch.randn(6, 8, *size),), dynamic_shapes=(axes,))
    other = torch.randn(6, 8, size[0] - 1, size[1] + 1)
    torch.testing.assert_close(exported.module()(other), block(other))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("size", [(4, 6), (17, 20)])
def test_a_traced_block_takes_maps_of_other_sizes(size):
    torch.manual_seed(0)
    block = MotionExcitation(8, 3, reduction=4).eval()
    block.squeeze_norm.bias.data.normal_()
    traced = torch.jit.trace(block, torch.randn(6, 8, *size))
    other = torch.randn(6, 8, size[0] - 1, size[1] + 1)
    torch.testing.assert_close(traced(other), block(other))


@pytest.mark.parametrize("options", [{"padding_mode": "circular"}, {"padding": 0}, {"stride": 2}])
def test_a_convolution_whose_mean_is_another_is_refused(options):
    block = MotionExcitation(8, 3, reduction=4)
    block.transform = nn.Conv2d(2, 2, 3, groups=2, **{"padding": 1, **options})
    with pytest.raises(ValueError, match=r"^affine: found Conv2d\(2, 2, .*\), expected a convolution with an odd"):
        block(torch.randn(6, 8, 5, 4))


def test_large_numbers_do_not_overflow_in_half_precision():
    torch.manual_seed(0)
    block = MotionExcitation(16, 2, reduction=4).eval()
    x = (6 + torch.randn(2, 16, 112, 112)).half()
    exact = block(x.float())
    torch.testing.assert_close(block.half()(x).float(), exact, rtol=0, atol=0.02 * exact.std().item())
    assert block.train()(x).isfinite().all()


def test_a_reduction_that_leaves_no_channel_is_refused():
    with pytest.raises(ValueError, match=r"^MotionExcitation: reduction=16 is above channels=8; use 8 or less$"):
        MotionExcitation(8, 3)


def test_the_gate_of_the_paper_lies_between_minus_one_and_one():
    block = MotionExcitation(8, 3, reduction=4, gate_scale=2.0).double().eval()
    block.excite_norm.bias.data.normal_()
    x = torch.randn(2 * 3, 8, 4, 5).double()
    gate = 2 * block.attention(x)["channel"] - 1
    torch.testing.assert_close(block(x), x + x * gate)


def test_a_gate_scale_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"^MotionExcitation: gate_scale=0 is not above 0; use 1 or 2$"):
        MotionExcitation(16, 3, gate_scale=0)


@pytest.mark.parametrize(
    ("dialect", "said", "frames"),
    [("phoenix1327", {}, 8), ("phoenix1327-16f", {}, 16), ("phoenix1327-16f", {"n_segment": 4}, 4)],
)
def test_the_number_of_frames_is_that_of_the_authors_file(tmp_path, dialect, said, frames):
    block = attnzoo.create("motion-excitation", channels=32, num_frames=frames).eval()
    attnzoo.export(block, tmp_path / "a.safetensors", dialect)
    loaded = attnzoo.load_foreign(tmp_path / "a.safetensors", "motion-excitation", dialect, channel=32, **said)
    assert loaded.num_frames == frames
    x = torch.randn(frames, 32, 3, 4)
    torch.testing.assert_close(loaded.eval()(x), block(x))


def test_a_layer_of_other_sizes_in_its_place_is_refused():
    block = MotionExcitation(8, 2, reduction=4)
    block.transform = nn.Conv2d(2, 2, 1, groups=2)
    with pytest.raises(
        ValueError, match=r"^MotionExcitation: transform.weight of shape \(2, 1, 1, 1\), expected \(2, 1, 3, 3\)"
    ):
        block(torch.randn(2, 8, 5, 5))
