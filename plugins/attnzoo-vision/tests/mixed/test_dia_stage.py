import pytest
import torch

from attnzoo_vision.mixed.dia_stage import DIAStage


def test_each_branch_is_scaled_by_the_state_that_the_blocks_before_it_left() -> None:
    torch.manual_seed(0)
    stage = DIAStage(8, out_channels=16, num_blocks=2, stride=2).double().eval()
    x = torch.randn(2, 8, 5, 7, dtype=torch.float64)
    expected, state = x, (None, None)
    for block in stage.blocks:
        branch, shortcut = block(expected)
        state = stage.cell(branch.mean((2, 3)), *state)
        expected = torch.relu(branch * state[0][0, :, :, None, None] + shortcut)
    torch.testing.assert_close(stage(x), expected)
    assert stage(x).shape == (2, 16, 3, 4)


def test_channels_that_four_does_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="DIAStage: out_channels=10 is not a multiple of 4; use 8 or 12"):
        DIAStage(10)


def test_no_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="DIAStage: num_blocks=0 is below 1; use 1 or more"):
        DIAStage(8, num_blocks=0)
