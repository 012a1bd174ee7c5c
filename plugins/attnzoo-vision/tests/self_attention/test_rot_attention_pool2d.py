import pytest
import torch

from attnzoo_vision.self_attention.rot_attention_pool2d import RotAttentionPool2d


def test_pooling_is_the_first_token_of_full_attention():
    torch.manual_seed(0)
    block = RotAttentionPool2d(16, [3, 4], num_heads=2).double()
    x = torch.randn(2, 16, 3, 5, dtype=torch.float64)
    weight = block.attention(x)["pairwise"]
    block.pool = False
    torch.testing.assert_close(weight, block.attention(x)["pairwise"][:, :, :1])


def test_logits_of_pixels_depend_on_their_displacement_alone():
    torch.manual_seed(0)
    block = RotAttentionPool2d(8, [4, 4], num_heads=1, pool=False).double()
    x = torch.randn(1, 8, 1, 1, dtype=torch.float64).expand(-1, -1, 4, 4)
    logits = block.attention(x)["pairwise"][0, 0, 1:, 1:].log().view(4, 4, 4, 4)
    first = logits[0, 0, 1, 1] - logits[0, 0, 0, 0]
    torch.testing.assert_close(logits[1, 2, 2, 3] - logits[1, 2, 1, 2], first)


def test_the_projections_start_by_the_number_of_channels():
    torch.manual_seed(0)
    block = RotAttentionPool2d(256, [4, 4], num_heads=4)
    assert block.qkv.weight.std().item() == pytest.approx(256**-0.5, rel=0.03)
    assert block.qkv.bias.eq(0).all()
