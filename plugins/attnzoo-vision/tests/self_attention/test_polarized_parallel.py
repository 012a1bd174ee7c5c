"""Polarized self-attention, parallel: the formula written out with whole projected maps."""

import pytest
import torch

from attnzoo_vision.self_attention.polarized_parallel import PolarizedParallel


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gates_are_those_of_projected_maps(layout):
    torch.manual_seed(0)
    block = PolarizedParallel(6).double()
    x_nchw = torch.randn(2, 6, 5, 3, dtype=torch.float64).to(memory_format=layout)
    x_nlc = x_nchw.flatten(2).mT
    pool_nl1 = torch.softmax(block.channel_query(x_nlc), dim=1)
    context_nr = (block.channel_value(x_nlc) * pool_nl1).sum(1)
    channel_nc = torch.sigmoid(block.channel_out(context_nr))
    query_nr = block.spatial_query(x_nlc).mean(1)
    spatial_nl = torch.sigmoid(torch.softmax((block.spatial_value(x_nlc) * query_nr[:, None]).sum(2), dim=1))
    expected_nlc = x_nlc * channel_nc[:, None] + x_nlc * spatial_nl[:, :, None]
    torch.testing.assert_close(block(x_nchw), expected_nlc.mT.reshape(x_nchw.shape))


def test_a_single_channel_is_refused():
    with pytest.raises(ValueError, match="PolarizedParallel: channels=1 is below 2; use 2 or more"):
        PolarizedParallel(1)
