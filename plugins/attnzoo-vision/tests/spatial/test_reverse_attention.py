import pytest
import torch
import torch.nn.functional as F

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


def test_the_caffe_model_gates_the_raw_feature_and_has_two_hidden_layers():
    block = ReverseAttention(6, hidden_channels=4, norm=False, depth=2, gate_first=True).double()
    torch.nn.init.normal_(block.reduce.bias)
    x, p = torch.randn(2, 6, 5, 4).double(), torch.randn(2, 1, 5, 4).double()
    f = F.conv2d((1 - torch.sigmoid(p)) * x, block.reduce.weight, block.reduce.bias)
    for conv in block.convs:
        f = torch.relu(F.conv2d(f, conv.weight, conv.bias, padding=1))
    assert len(block.convs) == 2
    torch.testing.assert_close(block(x, p), p + F.conv2d(f, block.score.weight, block.score.bias, padding=1))


@pytest.mark.parametrize("gate_first", [False, True])
def test_without_norm_the_weights_start_small_and_normal(gate_first):
    torch.manual_seed(0)
    block = ReverseAttention(256, norm=False, gate_first=gate_first)
    for layer in (block.reduce, *block.convs):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.03)
        assert layer.bias.eq(0).all() == gate_first


def test_a_depth_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"^ReverseAttention: depth=0 is below 1; use 1 or more$"):
        ReverseAttention(8, depth=0)


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
