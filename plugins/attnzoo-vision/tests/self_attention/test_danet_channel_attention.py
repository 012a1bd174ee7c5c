"""DANet channel attention: the formula written out, and its odd sign."""

import re

import pytest
import torch

from attnzoo_vision.self_attention.danet_channel_attention import DANetChannelAttention


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_softmax_is_of_the_row_maximum_minus_the_similarity(layout):
    torch.manual_seed(0)
    block = DANetChannelAttention(6).double()
    torch.nn.init.constant_(block.gamma, 0.7)
    x_nchw = torch.randn(2, 6, 5, 3, dtype=torch.float64).to(memory_format=layout)
    x_ncl = x_nchw.flatten(2)
    similarity = x_ncl @ x_ncl.mT
    weight_ncc = torch.softmax(similarity.amax(2, keepdim=True) - similarity, dim=2)
    expected = x_nchw + 0.7 * (weight_ncc @ x_ncl).reshape(x_nchw.shape)
    torch.testing.assert_close(block(x_nchw), expected)
    torch.testing.assert_close(block.attention(x_nchw)["channels"], weight_ncc)


def test_a_channel_gives_itself_the_least_weight():
    x_nchw = torch.eye(4).view(1, 4, 2, 2) * 5
    weight_cc = DANetChannelAttention(4).attention(x_nchw)["channels"][0]
    assert (weight_cc.diagonal() < weight_cc.sum(1) / 4).all()


def test_without_negation_the_softmax_is_of_the_similarity():
    torch.manual_seed(0)
    block = DANetChannelAttention(6, negate=False).double()
    torch.nn.init.constant_(block.gamma, 0.7)
    x_nchw = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    x_ncl = x_nchw.flatten(2)
    weight_ncc = torch.softmax(x_ncl @ x_ncl.mT, dim=2)
    torch.testing.assert_close(block(x_nchw), x_nchw + 0.7 * (weight_ncc @ x_ncl).reshape(x_nchw.shape))
    torch.testing.assert_close(block.attention(x_nchw)["channels"], weight_ncc)


def test_other_channels_than_declared_are_refused():
    words = "DANetChannelAttention: input of shape (1, 3, 2, 2) has 3 channels, expected channels=4; "
    words += "give (N, 4, H, W) or build it with channels=3"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        DANetChannelAttention(4)(torch.randn(1, 3, 2, 2))
