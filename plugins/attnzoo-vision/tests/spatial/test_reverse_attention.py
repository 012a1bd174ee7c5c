import pytest
import torch

from attnzoo_vision.spatial.reverse_attention import ReverseAttention
from attnzoo_vision.spatial.reverse_attention_pranet import ReverseAttentionPraNet


def test_version_1_is_a_gated_linear_feature_refined():
    block = ReverseAttention(6, hidden_channels=4, norm=False).double()
    x, p = torch.randn(2, 6, 5, 4).double(), torch.randn(2, 1, 5, 4).double()
    f = block.reduce(x) * (1 - torch.sigmoid(p))
    for conv in block.convs:
        f = torch.relu(conv(f))
    torch.testing.assert_close(block(x, p), p + block.score(f))


def test_version_2_normalises_and_rectifies_before_the_gate():
    block = ReverseAttention(6, hidden_channels=4).double().eval()
    x, p = torch.randn(2, 6, 5, 4).double(), torch.randn(2, 1, 5, 4).double()
    f = torch.relu(block.reduce_norm(block.reduce(x))) * (1 - torch.sigmoid(p))
    for conv, norm in zip(block.convs, block.norms, strict=True):
        f = torch.relu(norm(conv(f)))
    torch.testing.assert_close(block(x, p), p + block.score(f))


def test_pranet_gates_the_raw_feature():
    block = ReverseAttentionPraNet(6, hidden_channels=4).double().eval()
    x, p = torch.randn(2, 6, 5, 4).double(), torch.randn(2, 1, 5, 4).double()
    f = block.reduce.norm(block.reduce.conv(x * (1 - torch.sigmoid(p))))
    for layer in block.hidden:
        f = torch.relu(layer.norm(layer.conv(f)))
    torch.testing.assert_close(block(x, p), p + block.score.norm(block.score.conv(f)))


def test_where_the_prediction_is_certain_nothing_passes_the_gate():
    block = ReverseAttention(6, hidden_channels=4)
    gate = block.attention(torch.randn(1, 6, 3, 3), torch.full((1, 1, 3, 3), 50.0))["gate"]
    assert gate.max() < 1e-6


def test_an_even_kernel_is_refused():
    with pytest.raises(
        ValueError, match=r"^ReverseAttentionPraNet: kernel_size=4 is not a positive odd number; use 3 or 5$"
    ):
        ReverseAttentionPraNet(8, kernel_size=4)
