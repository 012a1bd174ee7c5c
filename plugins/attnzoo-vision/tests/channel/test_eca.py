import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnzoo_vision.channel.eca import ECA
from attnzoo_vision.ops.channel_window import adaptive_kernel_size


def test_output_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    block = ECA(12, kernel_size=5).double()
    x = torch.randn(2, 12, 5, 3, dtype=torch.float64)
    signal = F.conv1d(x.mean((2, 3)).unsqueeze(1), block.conv.weight, padding=2)
    torch.testing.assert_close(block(x), x * torch.sigmoid(signal).view(2, 12, 1, 1))


def test_a_bias_is_added_to_all_logits():
    torch.manual_seed(0)
    block = ECA(12, kernel_size=3, bias=True).double()
    assert block.conv.bias.shape == (1,)
    x = torch.randn(2, 12, 5, 3, dtype=torch.float64)
    signal = F.conv1d(x.mean((2, 3)).unsqueeze(1), block.conv.weight, block.conv.bias, padding=1)
    torch.testing.assert_close(block(x), x * torch.sigmoid(signal).view(2, 12, 1, 1))


@pytest.mark.parametrize("options", [{"padding_mode": "circular"}, {"padding": 4, "dilation": 2}, {"padding": "same"}])
def test_a_filter_put_in_place_of_the_own_one_is_what_it_is(options):
    torch.manual_seed(0)
    block = ECA(12, kernel_size=5).double()
    block.conv = nn.Conv1d(1, 1, 5, **{"padding": 2, **options}).double()
    x = torch.randn(2, 12, 5, 3, dtype=torch.float64)
    signal = block.conv(x.mean((2, 3)).unsqueeze(1))
    torch.testing.assert_close(block(x), x * torch.sigmoid(signal).view(2, 12, 1, 1))


def test_kernel_size_grows_with_the_channels_as_published():
    sizes = [adaptive_kernel_size(channels) for channels in (2, 4, 8, 64, 128, 1024, 2048)]
    assert sizes == [1, 1, 3, 3, 5, 5, 7]


def test_an_even_kernel_is_refused():
    message = "^ECA: kernel_size=4 is not a positive odd number; use 3 or 5$"
    with pytest.raises(ValueError, match=message):
        ECA(16, kernel_size=4)
