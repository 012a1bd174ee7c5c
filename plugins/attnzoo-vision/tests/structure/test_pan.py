import torch

from attnzoo_vision.structure.pan_fpa import FeaturePyramidAttention
from attnzoo_vision.structure.pan_gau import GlobalAttentionUpsample


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
