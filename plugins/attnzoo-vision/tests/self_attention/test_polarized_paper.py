"""Polarized self-attention of the paper: the equations written out with whole projected maps."""

import pytest
import torch

from attnzoo_vision.self_attention.polarized_paper import PolarizedPaper


def plainly(block, x_nlc):
    pool_nl1 = torch.softmax(block.channel_query(x_nlc), dim=1)
    context_nr = (block.channel_value(x_nlc) * pool_nl1).sum(1)
    channel_n1c = torch.sigmoid(block.channel_norm(block.channel_out(context_nr))).unsqueeze(1)
    seen_nlc = x_nlc if block.order == "parallel" else x_nlc * channel_n1c
    query_n1r = torch.softmax(block.spatial_query(seen_nlc).mean(1, keepdim=True), dim=2)
    spatial_nl1 = torch.sigmoid((block.spatial_value(seen_nlc) * query_n1r).sum(2, keepdim=True))
    return x_nlc * (channel_n1c + spatial_nl1) if block.order == "parallel" else seen_nlc * spatial_nl1


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("order", ["parallel", "sequential"])
def test_the_gates_are_those_of_projected_maps_with_and_without_autograd(order, layout):
    torch.manual_seed(0)
    block = PolarizedPaper(6, order=order).double()
    x_nchw = torch.randn(2, 6, 5, 3, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    expected_nchw = plainly(block, x_nchw.flatten(2).mT).mT.reshape(x_nchw.shape)
    y_nchw = block(x_nchw)
    torch.testing.assert_close(y_nchw, expected_nchw)
    with torch.inference_mode():
        torch.testing.assert_close(block(x_nchw.detach()), expected_nchw.detach())
    parameters = [p for name, p in block.named_parameters() if name != "channel_query.bias"]
    weight_nchw = torch.randn_like(y_nchw)
    for ours, plain in zip(
        torch.autograd.grad((y_nchw * weight_nchw).sum(), [x_nchw, *parameters]),
        torch.autograd.grad((expected_nchw * weight_nchw).sum(), [x_nchw, *parameters]),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain)


def test_an_unknown_order_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match="PolarizedPaper: order='both' is not known; use one of 'parallel', 'sequential'"
    ):
        PolarizedPaper(8, order="both")
