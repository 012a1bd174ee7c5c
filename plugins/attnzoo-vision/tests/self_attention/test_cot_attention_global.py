"""Contextual attention over all positions: the formula written out with its maps of taps, and what it refuses."""

import pytest
import torch

from attnzoo_vision.self_attention.cot_attention_global import CoTAttentionGlobal


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [False, True])
def test_the_mean_of_the_taps_is_normalised_over_all_positions(layout, training):
    torch.manual_seed(0)
    block = CoTAttentionGlobal(8, kernel_size=3).double().train(training)
    x_nchw = torch.randn(2, 8, 5, 3, dtype=torch.float64).to(memory_format=layout)
    context_nchw = torch.relu(block.context.norm(block.context.conv(x_nchw)))
    hidden_nrhw = torch.relu(block.embed.norm(block.embed.conv(torch.cat([context_nchw, x_nchw], 1))))
    logits_ncthw = block.weight(hidden_nrhw).reshape(2, 8, 9, 5, 3)
    weight_nchw = torch.softmax(logits_ncthw.mean(2).flatten(2), dim=2).reshape(2, 8, 5, 3)
    expected = context_nchw + weight_nchw * block.value.norm(block.value.conv(x_nchw))
    torch.testing.assert_close(block(x_nchw), expected)
    torch.testing.assert_close(block.attention(x_nchw)["positions"], weight_nchw)


def test_channels_that_four_does_not_divide_are_refused():
    expected = r"^CoTAttentionGlobal: channels=10 is not a multiple of 4; use 8 or 12$"
    with pytest.raises(ValueError, match=expected):
        CoTAttentionGlobal(10)


def test_an_even_kernel_is_refused():
    expected = r"^CoTAttentionGlobal: kernel_size=4 is not a positive odd number; use 3 or 5$"
    with pytest.raises(ValueError, match=expected):
        CoTAttentionGlobal(8, kernel_size=4)
