import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.self_attention.cot_layer import CoTLayer
from attnzoo_vision.self_attention.coxt_layer import CoXtLayer


def test_it_is_the_formula():
    torch.manual_seed(0)
    block = CoTLayer(16).double().eval()
    x = torch.randn(2, 16, 3, 4, dtype=torch.float64)
    context = block.context(x)
    w = block.weight_norm(block.weight(block.embed(torch.cat([x, context], 1)))).view(2, 2, 9, 3, 4)
    v = F.unfold(block.value(x), 3, padding=1).view(2, 16, 9, 3, 4)
    dynamic = F.silu(block.norm(torch.stack([(w[:, c % 2] * v[:, c]).sum(1) for c in range(16)], 1)))
    a = block.fusion.excite(torch.relu(block.fusion.norm(block.fusion.squeeze((dynamic + context).mean((2, 3))))))
    a = a.view(2, 16, 2, 1, 1).softmax(2)
    torch.testing.assert_close(block(x), a[:, :, 0] * dynamic + a[:, :, 1] * context)


def test_channels_that_eight_does_not_divide_are_refused():
    with pytest.raises(ValueError, match="CoTLayer: channels=20 is not a multiple of 8; use 16 or 24"):
        CoTLayer(20)


@pytest.mark.parametrize("kind", [CoTLayer, CoXtLayer])
def test_the_weights_start_as_in_the_authors_network(kind):
    torch.manual_seed(0)
    block = kind(256)
    for layer in (block.context.conv, block.embed.conv, block.weight, block.value.conv, block.fusion.excite):
        fan_out = layer.weight.shape[0] * layer.weight.shape[2:].numel()
        assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)
    bound = block.fusion.excite.in_features**-0.5
    assert block.fusion.excite.bias.abs().max().item() == pytest.approx(bound, rel=0.03)
    for norm in (block.weight_norm, block.norm, block.fusion.norm):
        assert norm.weight.eq(1).all()
        assert norm.bias.eq(0).all()
