"""Global context: the formula written out, the start as identity, and the errors."""

import pytest
import torch
from torch.nn import functional as F

from attnzoo_vision.self_attention.global_context import GlobalContext


def _transform(layers, context_nc):
    hidden_nr = F.layer_norm(
        layers.reduce(context_nc), (layers.reduce.out_features,), layers.norm.weight, layers.norm.bias
    )
    return layers.expand(torch.relu(hidden_nr))[:, :, None, None]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_context_is_the_attention_weighted_mean(layout):
    torch.manual_seed(0)
    block = GlobalContext(8, reduction=2, fusion="scale-add").double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x_nchw = torch.randn(2, 8, 5, 3, dtype=torch.float64).to(memory_format=layout)
    logits_nhw = torch.einsum("c,nchw->nhw", block.attend.weight[0], x_nchw)
    weight_nhw = logits_nhw.flatten(1).softmax(1).view_as(logits_nhw)
    context_nc = torch.einsum("nhw,nchw->nc", weight_nhw, x_nchw)
    expected = x_nchw * torch.sigmoid(_transform(block.scale, context_nc)) + _transform(block.add, context_nc)
    torch.testing.assert_close(block(x_nchw), expected)
    torch.testing.assert_close(block.attention(x_nchw)["spatial"], weight_nhw.unsqueeze(1))


def test_the_authors_form_starts_as_the_identity():
    x_nchw = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(GlobalContext(16)(x_nchw), x_nchw)


def test_an_unknown_fusion_is_refused():
    with pytest.raises(ValueError, match=r"GlobalContext: fusion='mul' is not known; use one of 'add', 'scale'"):
        GlobalContext(16, fusion="mul")
