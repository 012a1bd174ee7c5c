"""Polarized self-attention, sequential: the formula written out with whole projected maps."""

import pytest
import torch
from torch.nn import functional as F

from attnzoo_vision.self_attention.polarized_sequential import PolarizedSequential


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_spatial_gate_follows_the_channel_gate(layout):
    torch.manual_seed(0)
    block = PolarizedSequential(8, reduction=2).double()
    x_nchw = torch.randn(2, 8, 5, 3, dtype=torch.float64).to(memory_format=layout)
    x_nlc = x_nchw.flatten(2).mT
    context_nr = (block.channel_value(x_nlc) * torch.softmax(block.channel_query(x_nlc), dim=1)).sum(1)
    hidden_nr = torch.relu(F.layer_norm(block.channel_reduce(context_nr), (2,)))
    z_nlc = x_nlc * torch.sigmoid(block.channel_expand(hidden_nr))[:, None]
    weight_nlr = torch.softmax(block.spatial_value(z_nlc), dim=1)
    query_nr = block.spatial_query(z_nlc).mean(1)
    spatial_nl = torch.sigmoid((weight_nlr * query_nr[:, None]).sum(2))
    expected = (z_nlc * spatial_nl[:, :, None]).mT.reshape(x_nchw.shape)
    torch.testing.assert_close(block(x_nchw), expected)


def test_a_reduction_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^PolarizedSequential: reduction=4 is above channels // 2=2; use 2 or less$"):
        PolarizedSequential(4)
