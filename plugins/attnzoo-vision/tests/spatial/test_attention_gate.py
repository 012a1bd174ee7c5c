import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.spatial.additive_attention_gate import AdditiveAttentionGate
from attnzoo_vision.spatial.attention_gate import AttentionGate


@pytest.mark.parametrize("mode", ["sigmoid", "softplus", "softmax"])
def test_the_skip_feature_is_weighted_by_the_gate(mode):
    block = AttentionGate(6, 8, mode=mode).double().eval()
    x, gate = torch.randn(2, 6, 8, 6).double(), torch.randn(2, 8, 3, 2).double()
    f = block.theta(x) + F.interpolate(block.phi(gate), (4, 3), mode="bilinear")
    logits = block.psi(F.softplus(f) if mode == "softplus" else f.relu())
    a = torch.softmax(logits.view(2, 1, 12), -1).view(2, 1, 4, 3) if mode == "softmax" else logits.sigmoid()
    a = F.interpolate(a, (8, 6), mode="bilinear")
    torch.testing.assert_close(block.attention(x, gate)["spatial"], a)
    torch.testing.assert_close(block(x, gate), block.norm(block.project(a * x)))


def test_it_works_on_volumes():
    block = AttentionGate(4, 6, spatial_dims=3, stride=[1, 2, 2])
    assert block(torch.randn(2, 4, 3, 6, 8), torch.randn(2, 6, 3, 3, 4)).shape == (2, 4, 3, 6, 8)


def test_a_stride_for_the_wrong_number_of_axes_is_refused():
    message = r"^AttentionGate: stride=\[2, 2, 2\] is not one number or 2 numbers, each at least 1; use 2 or \[2, 2\]$"
    with pytest.raises(ValueError, match=message):
        AttentionGate(4, 6, stride=[2, 2, 2])


def test_the_additive_gate_compares_at_one_size():
    block = AdditiveAttentionGate(6, 8).double().eval()
    x, gate = torch.randn(2, 6, 5, 4).double(), torch.randn(2, 8, 5, 4).double()
    f = torch.relu(block.gate_norm(block.gate(gate)) + block.skip_norm(block.skip(x)))
    torch.testing.assert_close(block(x, gate), x * torch.sigmoid(block.psi_norm(block.psi(f))))
