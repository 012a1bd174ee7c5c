import pytest
import torch

from attnzoo_vision.mixed.dia_cell import DIACell


def test_equals_the_formula() -> None:
    torch.manual_seed(0)
    cell = DIACell(8, hidden_channels=12, num_layers=2, dropout=0.0).double()
    x, h, c = (torch.randn(s, dtype=torch.float64) for s in ((3, 8), (2, 3, 12), (2, 3, 12)))
    hidden, state = cell(x, h, c)
    for k in range(2):
        i, f, g, o = (cell.from_input[k](x) + cell.from_hidden[k](h[k])).split(12, dim=1)
        expected_state = f.sigmoid() * c[k] + i.sigmoid() * g.tanh()
        x = o.sigmoid() * expected_state.sigmoid()
        torch.testing.assert_close(state[k], expected_state)
        torch.testing.assert_close(hidden[k], x)


def test_left_out_states_are_zero() -> None:
    torch.manual_seed(0)
    cell, x, zeros = DIACell(8), torch.randn(3, 8), torch.zeros(1, 3, 8)
    torch.testing.assert_close(cell(x), cell(x, zeros, zeros))


def test_no_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="DIACell: num_layers=0 is below 1; use 1 or more"):
        DIACell(8, num_layers=0)


def test_a_reduction_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="DIACell: reduction=4 is above channels=2; use 2 or less"):
        DIACell(2)
