"""External attention: the formula written out step by step."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attnzoo_vision.self_attention.external_attention import ExternalAttention


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_the_memory_is_normalised_over_positions_then_over_slots(layout, training, biased):
    torch.manual_seed(0)
    block = ExternalAttention(6, memory_size=4)
    if biased:
        for layer in (block.memory_key, block.memory_value, block.out):
            layer.bias = nn.Parameter(torch.randn(layer.out_features))
    block.double().train(training)
    x_nchw = torch.randn(2, 6, 5, 3, dtype=torch.float64).to(memory_format=layout)
    weight_nls = torch.softmax(block.memory_key(block.embed(x_nchw.flatten(2).mT)), dim=1)
    weight_nls = weight_nls / (1e-9 + weight_nls.sum(2, keepdim=True))
    y_nchw = block.out(block.memory_value(weight_nls)).mT.reshape(x_nchw.shape)
    mean, variance = (None, None) if training else (torch.zeros(6).double(), torch.ones(6).double())
    expected = torch.relu(x_nchw + F.batch_norm(y_nchw, mean, variance, training=training))
    torch.testing.assert_close(block(x_nchw), expected)
    found = block.attention(x_nchw)["memory"]
    torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))


def test_the_memories_start_as_transposes_but_are_separate():
    block = ExternalAttention(6, memory_size=4)
    torch.testing.assert_close(block.memory_key.weight, block.memory_value.weight.t())
    assert block.memory_key.weight.data_ptr() != block.memory_value.weight.data_ptr()


def test_no_slot_is_refused():
    with pytest.raises(ValueError, match="ExternalAttention: memory_size=0 is below 1; use 1 or more"):
        ExternalAttention(4, memory_size=0)
