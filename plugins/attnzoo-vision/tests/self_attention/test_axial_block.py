import torch

from attnzoo_vision.self_attention.axial_block import AxialBlock


def test_it_starts_as_its_rectified_shortcut():
    block = AxialBlock(16, num_heads=2, kernel_size=6)
    x = torch.randn(2, 16, 6, 5)
    torch.testing.assert_close(block(x), torch.relu(x))


def test_stride_two_halves_the_map():
    block = AxialBlock(16, out_channels=24, hidden_channels=8, num_heads=2, kernel_size=6, stride=2)
    assert block(torch.randn(2, 16, 6, 4)).shape == (2, 24, 3, 2)
