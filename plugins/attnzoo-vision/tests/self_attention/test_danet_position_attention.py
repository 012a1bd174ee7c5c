"""DANet position attention: the formula written out, and the start as identity."""

import pytest
import torch

from attnzoo_vision.self_attention.danet_position_attention import DANetPositionAttention


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_each_pixel_attends_to_all_pixels_without_a_scale(layout):
    torch.manual_seed(0)
    block = DANetPositionAttention(8, reduction=2).double()
    torch.nn.init.constant_(block.gamma, 0.7)
    x_nchw = torch.randn(2, 8, 5, 3, dtype=torch.float64).to(memory_format=layout)
    x_nlc = x_nchw.flatten(2).mT
    weight_nlm = torch.softmax(block.query(x_nlc) @ block.key(x_nlc).mT, dim=2)
    expected = x_nchw + 0.7 * (weight_nlm @ block.value(x_nlc)).mT.reshape(x_nchw.shape)
    torch.testing.assert_close(block(x_nchw), expected)
    torch.testing.assert_close(block.attention(x_nchw)["pairwise"], weight_nlm)


def test_the_block_starts_as_the_identity():
    x_nchw = torch.randn(2, 8, 3, 4)
    torch.testing.assert_close(DANetPositionAttention(8)(x_nchw), x_nchw)


def test_a_reduction_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^DANetPositionAttention: reduction=8 is above channels=4; use 4 or less$"):
        DANetPositionAttention(4)
