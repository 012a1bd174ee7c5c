import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.channel.gather_excite import GatherExcite
from attnzoo_vision.channel.ge_block import GEBlock


def test_without_parameters_the_gate_is_the_sigmoid_of_the_mean():
    x = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(GatherExcite(6)(x), x * torch.sigmoid(x.mean((2, 3), keepdim=True)))


def test_windows_do_not_count_the_padding_and_spread_to_the_nearest():
    x = torch.randn(2, 6, 7, 5, dtype=torch.float64)
    gathered = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    torch.testing.assert_close(GatherExcite(6, extent=2)(x), x * torch.sigmoid(F.interpolate(gathered, size=(7, 5))))


def test_the_convolution_of_the_whole_map_is_followed_by_norm_and_excitation():
    torch.manual_seed(0)
    block = GatherExcite(6, gather="conv", size=(4, 5), hidden_channels=3).double().eval()
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    gathered = torch.relu(block.norms[0](block.convs[0](x))).flatten(1)
    weight = torch.sigmoid(block.excite(torch.relu(block.squeeze(gathered))))
    torch.testing.assert_close(block(x), x * weight[:, :, None, None])


def test_a_convolution_of_the_whole_map_needs_its_size():
    message = "^GatherExcite: extent=0 with gather='conv' needs size; give height and width of the map$"
    with pytest.raises(ValueError, match=message):
        GatherExcite(6, gather="conv")


def test_the_residual_block_adds_the_gated_branch_to_the_shortcut():
    torch.manual_seed(0)
    block = GEBlock(4, out_channels=6, stride=2).double().eval()
    x = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    active = torch.relu(block.norm1(x))
    branch = block.conv2(torch.relu(block.norm2(block.conv1(active))))
    gate = torch.sigmoid(branch.mean((2, 3), keepdim=True))
    torch.testing.assert_close(block(x), block.shortcut(active) + branch * gate)
