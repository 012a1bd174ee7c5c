import pytest
import torch

from attnzoo_vision.mixed.shuffle_attention import ShuffleAttention


def formula(block: ShuffleAttention, x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    u, v = x.reshape(n * block.groups, -1, h, w).chunk(2, dim=1)

    def column(t: torch.Tensor) -> torch.Tensor:
        return t[:, None, None]

    u = u * torch.sigmoid(column(block.channel_weight) * u.mean((2, 3), keepdim=True) + column(block.channel_bias))
    v = v * torch.sigmoid(column(block.pixel_weight) * block.norm(v) + column(block.pixel_bias))
    y = torch.cat([u, v], dim=1).reshape(n, 2, c // 2, h, w)
    return y.transpose(1, 2).reshape(n, c, h, w)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_equals_the_formula(groups: int, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    block = ShuffleAttention(24, groups=groups).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 24, 5, 4, dtype=torch.float64).contiguous(memory_format=layout)
    torch.testing.assert_close(block(x), formula(block, x))
    with torch.no_grad():
        y = block(x)
    torch.testing.assert_close(y, formula(block, x))


def test_too_many_groups_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^ShuffleAttention: groups=64 times 2 does not divide channels=64; use groups=32$"
    ):
        ShuffleAttention(64)
