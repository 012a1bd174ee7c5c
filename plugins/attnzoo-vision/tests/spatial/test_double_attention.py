"""Double attention: the formula written out in the paper's order of products."""

import pytest
import torch

from attnzoo_vision.spatial.double_attention import DoubleAttention


@pytest.mark.parametrize("size", [(5, 3), (1, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_features_are_gathered_then_distributed(layout, size):
    torch.manual_seed(0)
    block = DoubleAttention(6, hidden_channels=4, num_maps=3).double()
    x_nchw = torch.randn(2, 6, *size, dtype=torch.float64).to(memory_format=layout)
    x_nlc = x_nchw.flatten(2).mT
    descriptor_nmk = block.feature(x_nlc).mT @ torch.softmax(block.gather(x_nlc), dim=1)
    z_nlm = torch.softmax(block.distribute(x_nlc), dim=2) @ descriptor_nmk.mT
    expected = x_nchw + block.reconstruct(z_nlm).mT.reshape(x_nchw.shape)
    torch.testing.assert_close(block(x_nchw), expected)


@pytest.mark.parametrize("training", [False, True])
def test_a_norm_stands_between_the_reconstruction_and_the_shortcut(training):
    torch.manual_seed(0)
    block = DoubleAttention(6, norm=True).double().train(training)
    plain = DoubleAttention(6, residual=False).double()
    plain.load_state_dict(block.state_dict(), strict=False)
    x_nchw = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    mean, variance = (None, None) if training else (torch.zeros(6).double(), torch.ones(6).double())
    expected = x_nchw + torch.nn.functional.batch_norm(plain(x_nchw), mean, variance, training=training)
    torch.testing.assert_close(block(x_nchw), expected)


def test_a_norm_without_reconstruction_is_refused():
    expected = "^DoubleAttention: norm=True needs reconstruct=True; set norm=False$"
    with pytest.raises(ValueError, match=expected):
        DoubleAttention(6, reconstruct=False, residual=False, norm=True)


def test_a_shortcut_without_reconstruction_is_refused():
    with pytest.raises(ValueError, match="DoubleAttention: residual=True needs reconstruct=True; set residual=False"):
        DoubleAttention(6, reconstruct=False)
