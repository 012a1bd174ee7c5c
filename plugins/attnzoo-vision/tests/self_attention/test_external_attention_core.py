"""The core of external attention: the formula written out, its start, and weights that vanish."""

import pytest
import torch

from attnzoo_vision.self_attention.external_attention_core import ExternalAttentionCore


def test_the_memory_is_normalised_over_tokens_then_over_slots():
    torch.manual_seed(0)
    block = ExternalAttentionCore(6, memory_size=4).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x_nlc = torch.randn(2, 5, 6, dtype=torch.float64)
    position_nls = torch.exp(x_nlc @ block.memory_key.weight.T)
    position_nls = position_nls / position_nls.sum(1, keepdim=True)
    weight_nls = position_nls / position_nls.sum(2, keepdim=True)
    torch.testing.assert_close(block(x_nlc), weight_nls @ block.memory_value.weight.T)
    torch.testing.assert_close(block.attention(x_nlc)["memory"], weight_nls)


def test_both_memories_start_with_deviation_a_thousandth():
    torch.manual_seed(0)
    block = ExternalAttentionCore(512, memory_size=64)
    for layer in (block.memory_key, block.memory_value):
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.03)


def test_a_token_whose_weights_vanish_reads_nothing():
    block = ExternalAttentionCore(1, memory_size=2)
    torch.nn.init.ones_(block.memory_key.weight)
    torch.nn.init.ones_(block.memory_value.weight)
    assert block(torch.tensor([[[0.0], [300.0]]])).tolist() == [[[0.0], [1.0]]]


def test_no_slot_is_refused():
    with pytest.raises(ValueError, match=r"^ExternalAttentionCore: memory_size=0 is below 1; use 1 or more$"):
        ExternalAttentionCore(4, memory_size=0)
