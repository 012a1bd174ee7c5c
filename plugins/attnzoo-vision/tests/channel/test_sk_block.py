import pytest
import torch

from attnzoo_vision.channel.sk_block import SKBlock


def test_output_is_the_formula_of_the_authors():
    torch.manual_seed(0)
    block = SKBlock(32, groups=4, reduction=4).double().eval()
    x = torch.randn(2, 32, 5, 3, dtype=torch.float64)
    u = torch.relu(block.reduce(x))
    first, second = torch.relu(block.dense(u)), torch.relu(block.grouped(u))
    hidden = torch.relu(block.norm((first + second).mean((2, 3)) @ block.squeeze.weight.T))
    weight = (hidden @ block.select.weight.T).view(2, 2, 8).softmax(1)[:, :, :, None, None]
    torch.testing.assert_close(block(x), torch.relu(block.expand(first * weight[:, 0] + second * weight[:, 1]) + x))


def test_a_change_of_shape_without_projection_is_refused():
    message = "^SKBlock: projection=False needs stride=1 and channels=128, found 2 and 128; use projection=True$"
    with pytest.raises(ValueError, match=message):
        SKBlock(128, stride=2)
