import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.mixed.split_ela import SplitELA


@pytest.mark.parametrize("shortcut", [True, False])
def test_equals_the_formula(shortcut: bool) -> None:
    torch.manual_seed(0)
    block = SplitELA(12, kernel_size=5, shortcut=shortcut).double()
    x = torch.randn(2, 12, 5, 7, dtype=torch.float64)

    def weight(strip: torch.nn.Module, s: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(F.silu(F.group_norm(strip.conv(s), 1)))

    expected = x * weight(block.height, x.mean(3))[:, :, :, None] * weight(block.width, x.mean(2))[:, :, None, :]
    torch.testing.assert_close(block(x), expected + x if shortcut else expected)


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="SplitELA: kernel_size=4 is not a positive odd number; use 3 or 5"):
        SplitELA(8, kernel_size=4)


def test_norm_and_activation_can_be_chosen() -> None:
    torch.manual_seed(0)
    block = SplitELA(6, kernel_size=3, norm="batch", activation="relu")
    x = torch.randn(2, 6, 5, 7)

    def weight(strip: torch.nn.Module, s: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(torch.relu(F.batch_norm(strip.conv(s), None, None, training=True)))

    expected = x * weight(block.height, x.mean(3))[:, :, :, None] * weight(block.width, x.mean(2))[:, :, None, :]
    torch.testing.assert_close(block(x), expected)
    assert block.height.norm.num_batches_tracked == 1


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="SplitELA: norm='layer'"):
        SplitELA(8, norm="layer")  # type: ignore[arg-type]
