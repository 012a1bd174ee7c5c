import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.structure.pan_fpa import FeaturePyramidAttention
from attnzoo_vision.structure.pan_fpa_smp import FeaturePyramidAttentionSMP
from attnzoo_vision.structure.pan_gau import GlobalAttentionUpsample
from attnzoo_vision.structure.pan_gau_smp import GlobalAttentionUpsampleSMP


def test_the_pyramid_weights_the_map():
    block = FeaturePyramidAttention(8).double().eval()
    x = torch.randn(2, 8, 8, 16).double()
    d1 = block.down[0](x)
    d2 = block.down[1](d1)
    d3 = block.down[2](d2)
    u3 = torch.relu(block.up_norm[2](block.up[2](block.lateral[2](d3))))
    u2 = torch.relu(block.up_norm[1](block.up[1](torch.relu(block.lateral[1](d2) + u3))))
    a = torch.relu(block.up_norm[0](block.up[0](torch.relu(block.lateral[0](d1) + u2))))
    mean = block.mean_norm(block.mean(x.mean((2, 3))))[:, :, None, None]
    torch.testing.assert_close(block(x), torch.relu(block.master(x) * a + mean))


def test_the_pyramid_takes_odd_sizes():
    assert FeaturePyramidAttention(8)(torch.randn(2, 8, 5, 13)).shape == (2, 8, 5, 13)


def test_the_fine_feature_is_weighted_by_the_mean_of_the_coarse_one():
    block = GlobalAttentionUpsample(6, 4).double().eval()
    x, fine = torch.randn(2, 6, 3, 4).double(), torch.randn(2, 4, 6, 8).double()
    gate = torch.relu(block.gate_norm(block.gate(x.mean((2, 3)))))[:, :, None, None]
    expected = torch.relu(block.coarse_norm(block.coarse(x)) + block.fine(fine) * gate)
    torch.testing.assert_close(block(x, fine), expected)


def drawn(block):
    for norm in block.modules():
        if isinstance(norm, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                torch.nn.init.normal_(tensor)
    return block.double().eval()


def cbr(layer, x):
    y = F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=layer.conv.kernel_size[0] // 2)
    return torch.relu(layer.norm(y))


def up(x, size):
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


@pytest.mark.parametrize("size", [(8, 16), (13, 22)])
def test_the_pyramid_of_one_channel_weights_the_pixels(size):
    torch.manual_seed(0)
    block, (h, w) = drawn(FeaturePyramidAttentionSMP(6, 4)), size
    x = torch.randn(2, 6, h, w).double()
    d1 = cbr(block.down[0], F.max_pool2d(x, 2))
    d2 = cbr(block.down[1], F.max_pool2d(d1, 2))
    d3 = cbr(block.lateral[2], cbr(block.down[2], F.max_pool2d(d2, 2)))
    merged = cbr(block.lateral[1], d2) + up(d3, (h // 4, w // 4))
    a = up(cbr(block.lateral[0], d1) + up(merged, (h // 2, w // 2)), size)
    mean = torch.relu(block.mean_norm(x.mean((2, 3)) @ block.mean.weight.T + block.mean.bias))[:, :, None, None]
    torch.testing.assert_close(block(x), cbr(block.master, x) * a + mean)


def test_a_map_too_small_for_the_pyramid_is_refused():
    message = r"^FeaturePyramidAttentionSMP: input of \(7, 9\) pixels, expected 8 or more; give a larger map$"
    with pytest.raises(ValueError, match=message):
        FeaturePyramidAttentionSMP(6, 4)(torch.randn(2, 6, 7, 9))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_the_convolved_fine_feature_is_gated_and_added_to_the_resized_coarse_one(mode):
    torch.manual_seed(0)
    block = drawn(GlobalAttentionUpsampleSMP(4, 6, upsample=mode))
    x, fine = torch.randn(2, 4, 3, 5).double(), torch.randn(2, 6, 7, 9).double()
    gate = torch.sigmoid(block.gate_norm(x.mean((2, 3)) @ block.gate.weight.T + block.gate.bias))[:, :, None, None]
    coarse = up(x, (7, 9)) if mode == "bilinear" else F.interpolate(x, (7, 9))
    torch.testing.assert_close(block(x, fine), coarse + cbr(block.fine, fine) * gate)


def test_the_blocks_of_segmentation_models_start_kaiming_uniform():
    torch.manual_seed(0)
    fpa, gau = FeaturePyramidAttentionSMP(256, 128), GlobalAttentionUpsampleSMP(128, 64)
    for layer, inputs in (
        (fpa.master.conv, 256),
        (fpa.mean, 256),
        (fpa.down[0].conv, 256 * 49),
        (gau.fine.conv, 64 * 9),
    ):
        bound = (6 / inputs) ** 0.5
        assert 0.98 * bound < layer.weight.abs().max().item() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert layer.bias.eq(0).all()
    assert gau.gate.bias.eq(0).all()


def test_an_unknown_upsampling_is_refused():
    message = r"^GlobalAttentionUpsampleSMP: upsample='cubic' is not known; use one of 'bilinear', 'nearest'$"
    with pytest.raises(ValueError, match=message):
        GlobalAttentionUpsampleSMP(8, 8, upsample="cubic")
