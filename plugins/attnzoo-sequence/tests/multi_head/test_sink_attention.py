import pytest
import torch

from attnzoo_sequence.multi_head.sink_attention import SinkAttention


@pytest.mark.parametrize("window", [None, 1, 3, 8, 30])
@pytest.mark.parametrize("masked", [False, True])
def test_forward_reads_by_the_weights_of_its_maps(window, masked):
    torch.manual_seed(0)
    block = SinkAttention(8, 4, num_kv_heads=2, window_size=window).double()
    x = torch.randn(2, 11, 8).double()
    mask = torch.rand(2, 11) > 0.4 if masked else None
    weights = block.attention(x, mask)["attention"]
    value = block.project(x)[2].repeat_interleave(2, 1)
    torch.testing.assert_close(block(x, mask), block.output((weights @ value).transpose(1, 2).flatten(2)))


def test_a_high_sink_takes_all_the_weight():
    block = SinkAttention(8, 2, bias=False)
    torch.nn.init.constant_(block.sinks, 100.0)
    assert block(torch.randn(1, 5, 8)).abs().max() < 1e-6
