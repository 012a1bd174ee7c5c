import torch
import torch.nn.functional as F

from attnzoo_vision.self_attention.coxt_layer import CoXtLayer


def test_weights_are_shared_within_each_of_two_groups():
    torch.manual_seed(0)
    block = CoXtLayer(32).double().eval()
    x = torch.randn(2, 32, 3, 2, dtype=torch.float64)
    context = block.context(x)
    mixed = torch.stack([x, context], 2).view(2, 64, 3, 2)
    w = block.weight_norm(block.weight(block.embed(mixed))).view(2, 2, 2, 9, 3, 2)
    v = F.unfold(block.value(x), 3, padding=1).view(2, 2, 16, 9, 3, 2)
    sums = [(w[:, g, c % 2] * v[:, g, c]).sum(1) for g in range(2) for c in range(16)]
    dynamic = F.silu(block.norm(torch.stack(sums, 1)))
    torch.testing.assert_close(block(x), block.fusion(dynamic, context))
