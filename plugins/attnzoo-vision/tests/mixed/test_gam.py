import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.mixed.gam import GAM


@pytest.mark.parametrize("channel_sigmoid", [True, False])
def test_equals_the_formula(channel_sigmoid: bool) -> None:
    torch.manual_seed(0)
    block = GAM(8, channel_sigmoid=channel_sigmoid).double().eval()
    x = torch.randn(2, 8, 5, 7, dtype=torch.float64)
    weight = block.excite(torch.relu(block.squeeze(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
    z = x * (torch.sigmoid(weight) if channel_sigmoid else weight)
    torch.testing.assert_close(block(x), z * torch.sigmoid(block.spatial(z)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("groups", "shuffle_groups"), [(4, 4), (2, 4), (1, 4), (4, 1)])
def test_equals_the_formula_with_groups_and_shuffle(
    groups: int, shuffle_groups: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    block = GAM(16, channel_sigmoid=False, groups=groups, shuffle_groups=shuffle_groups).double().eval()
    first, norm, _, second, last_norm = block.spatial
    x = torch.randn(2, 16, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    z = x * block.excite(torch.relu(block.squeeze(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
    hidden = torch.relu(norm(F.conv2d(z, first.weight, first.bias, padding=3, groups=groups)))
    gate = torch.sigmoid(last_norm(F.conv2d(hidden, second.weight, second.bias, padding=3, groups=groups)))
    each = 16 // shuffle_groups
    order = [group * each + k for k in range(each) for group in range(shuffle_groups)]
    torch.testing.assert_close(block(x), z * gate[:, order])
    torch.testing.assert_close(block.attention(x)["spatial"], gate[:, order])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 3}, "GAM: groups=3 does not divide channels=16; use groups=2 or 4"),
        ({"groups": 8}, r"GAM: groups=8 does not divide channels // reduction=4; use groups=4"),
        ({"shuffle_groups": 5}, "GAM: shuffle_groups=5 does not divide channels=16; use shuffle_groups=4 or 8"),
    ],
)
def test_groups_that_do_not_divide_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GAM(16, **arguments)


def test_a_reduction_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="GAM: reduction=4 is above channels=2; use 2 or less"):
        GAM(2)


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="GAM: kernel_size=6 is not a positive odd number; use 5 or 7"):
        GAM(8, kernel_size=6)
