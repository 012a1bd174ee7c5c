import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnzoo_vision.mixed.mlca import MLCA


@pytest.mark.parametrize("size", [(11, 4), (3, 15), (1, 1), (21, 19), (3, 50)])
@pytest.mark.parametrize("replaced", [None, "zeros", "reflect"])
def test_equals_the_formula(size: tuple[int, int], replaced: str | None) -> None:
    torch.manual_seed(0)
    block, x = MLCA(12, local_size=4, local_weight=0.3).double(), torch.randn(2, 12, *size, dtype=torch.float64)
    if replaced:
        block.whole = nn.Conv1d(1, 1, 3, padding=1, padding_mode=replaced).double()
        block.local = nn.Conv1d(1, 1, 3, padding=1, padding_mode=replaced).double()
    regions = F.adaptive_avg_pool2d(x, 4)
    sequence = regions.permute(0, 2, 3, 1).reshape(2, 1, -1)
    local = torch.sigmoid(block.local(sequence)).reshape(2, 4, 4, 12).permute(0, 3, 1, 2)
    whole = torch.sigmoid(block.whole(regions.mean((2, 3)).unsqueeze(1))).reshape(2, 12, 1, 1)
    weight = F.adaptive_avg_pool2d(0.7 * whole + 0.3 * local, size)
    torch.testing.assert_close(block(x), x * weight)


def test_an_even_number_of_taps_is_refused() -> None:
    with pytest.raises(ValueError, match="MLCA: kernel_size=4 is not a positive odd number; use 3 or 5"):
        MLCA(16, kernel_size=4)


def test_a_grid_without_regions_is_refused() -> None:
    with pytest.raises(ValueError, match="MLCA: local_size=0 is below 1; use 1 or more"):
        MLCA(16, local_size=0)
