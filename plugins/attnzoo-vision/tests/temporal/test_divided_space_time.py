import pytest
import torch

from attnzoo_vision.temporal.divided_space_time import DividedSpaceTime
from attnzoo_vision.temporal.joint_space_time import JointSpaceTime


def test_time_then_space_then_mlp():
    block = DividedSpaceTime(8, num_heads=2).double()
    torch.nn.init.normal_(block.time_project.weight)
    x, cls = torch.randn(2, 3, 5, 8).double(), torch.randn(2, 8).double()
    u = x.clone()
    for place in range(5):
        u[:, :, place] += block.time_project(block.time_attention(block.time_norm(x[:, :, place])))
    frames = [torch.cat([cls[:, None], u[:, t]], 1) for t in range(3)]
    branches = torch.stack([block.space_attention(block.space_norm(f)) for f in frames], 1)
    v, c = u + branches[:, :, 1:], cls + branches[:, :, 0].mean(1)
    y, y_cls = block(x, cls)
    torch.testing.assert_close(y, v + block.mlp(block.mlp_norm(v)))
    torch.testing.assert_close(y_cls, c + block.mlp(block.mlp_norm(c)))


def test_attention_along_time_starts_switched_off():
    block = DividedSpaceTime(8, num_heads=2)
    x = torch.randn(2, 3, 5, 8)
    assert torch.equal(block._attend_time(x), x)


def test_the_joint_form_attends_over_all_tokens():
    block = JointSpaceTime(8, num_heads=2).double()
    x = torch.randn(2, 6, 8).double()
    q, k, v = block.attend.qkv(block.attention_norm(x)).view(2, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
    weights = torch.softmax(q @ k.mT / 2, -1)
    y = x + block.attend.project((weights @ v).transpose(1, 2).reshape(2, 6, 8))
    torch.testing.assert_close(block(x), y + block.mlp(block.mlp_norm(y)))
    torch.testing.assert_close(block.attention(x)["attention"], weights)


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(
        ValueError, match=r"^DividedSpaceTime: num_heads=3 does not divide embed_dim=8; use num_heads=2 or 4$"
    ):
        DividedSpaceTime(8, num_heads=3)
