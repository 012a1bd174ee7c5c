import pytest
import torch

from attnzoo_vision.self_attention.bot_block import BotBlock


def test_it_starts_as_its_rectified_shortcut():
    block = BotBlock(16, 4, num_heads=2, head_dim=4)
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(block(x), torch.relu(x))


def test_stride_two_halves_the_map():
    block = BotBlock(8, [4, 6], out_channels=12, num_heads=2, head_dim=4, stride=2)
    assert block(torch.randn(2, 8, 4, 6)).shape == (2, 12, 2, 3)


def test_an_unknown_stride_is_refused():
    with pytest.raises(ValueError, match="BotBlock: stride=3 is not known; use one of 1, 2"):
        BotBlock(8, 4, stride=3)
