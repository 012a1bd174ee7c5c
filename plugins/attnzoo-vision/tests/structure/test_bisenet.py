import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.structure.bisenet_arm import AttentionRefinement
from attnzoo_vision.structure.bisenet_context_path import ContextPath
from attnzoo_vision.structure.bisenet_ffm import FeatureFusion
from attnzoo_vision.structure.bisenet_spatial_path import SpatialPath


def test_the_spatial_path_ends_at_an_eighth():
    assert SpatialPath(3, 16, hidden_channels=8)(torch.randn(2, 3, 33, 40)).shape == (2, 16, 5, 5)


def test_refinement_scales_the_convolved_channels():
    block = AttentionRefinement(6, 4).double().eval()
    x = torch.randn(2, 6, 5, 7).double()
    f = block.conv(x)
    gate = torch.sigmoid(block.gate_norm(block.gate(f.mean((2, 3)))))
    torch.testing.assert_close(block(x), f * gate[:, :, None, None])


def test_refinement_trains_on_one_sample():
    block = AttentionRefinement(6, 4).train()
    assert block(torch.randn(1, 6, 5, 7)).isfinite().all()
    assert block.gate_norm.running_mean.abs().max() == 0


@pytest.mark.parametrize("reduction", [2, 3])
def test_fusion_adds_the_weighted_feature(reduction):
    block = FeatureFusion(10, 8, reduction=reduction).double().eval()
    assert block.squeeze.out_features == 8 // reduction
    s, c = torch.randn(2, 4, 5, 7).double(), torch.randn(2, 6, 5, 7).double()
    f = block.fuse(torch.cat([s, c], 1))
    gate = torch.sigmoid(block.excite(torch.relu(block.squeeze(f.mean((2, 3))))))
    torch.testing.assert_close(block(s, c), f + f * gate[:, :, None, None])


def test_the_context_path_goes_from_the_mean_to_the_finer_map():
    block = ContextPath(6, 8, out_channels=4).double().eval()
    x, deep = torch.randn(2, 6, 5, 7).double(), torch.randn(2, 8, 3, 4).double()
    g = torch.relu(block.context_norm(block.context(deep.mean((2, 3)))))[:, :, None, None]
    up = lambda t, size: F.interpolate(t, size, mode="bilinear", align_corners=True)  # noqa: E731
    t = block.deep_refine(up(block.deep_arm(deep) + g, (5, 7)))
    y = block.refine(up(block.arm(x) + t, (9, 13)))
    context, deep_context = block(x, deep, (9, 13))
    torch.testing.assert_close(context, y)
    torch.testing.assert_close(deep_context, t)
