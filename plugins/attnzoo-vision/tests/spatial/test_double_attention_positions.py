"""Double attention over positions: the formula written out in the order of the compared code."""

import pytest
import torch

from attnzoo_vision.spatial.double_attention_positions import DoubleAttentionPositions


@pytest.mark.parametrize("size", [(5, 3), (1, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_both_softmaxes_run_over_positions(layout, size):
    torch.manual_seed(0)
    block = DoubleAttentionPositions(6, hidden_channels=4).double()
    x_nchw = torch.randn(2, 6, *size, dtype=torch.float64).to(memory_format=layout)
    x_nlc = x_nchw.flatten(2).mT
    descriptor_nrr = block.feature(x_nlc).mT @ torch.softmax(block.gather(x_nlc), dim=1)
    z_nlr = torch.softmax(block.distribute(x_nlc), dim=1) @ descriptor_nrr
    expected = x_nchw + block.reconstruct(z_nlr).mT.reshape(x_nchw.shape)
    torch.testing.assert_close(block(x_nchw), expected)
    gather = block.attention(x_nchw)["gather"]
    torch.testing.assert_close(gather.sum((2, 3)), torch.ones_like(gather[:, :, 0, 0]))
