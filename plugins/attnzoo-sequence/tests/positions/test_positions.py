import math

import pytest
import torch

from attnzoo_sequence.positions.learned_positions import LearnedPositions
from attnzoo_sequence.positions.rotary_positions import RotaryPositions
from attnzoo_sequence.positions.sinusoidal_positions import SinusoidalPositions


def test_sinusoidal_is_the_formula():
    found = SinusoidalPositions(6)(torch.zeros(1, 9, 6).double())[0]
    for p in range(9):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            assert math.isclose(found[p, 2 * i], math.sin(angle), abs_tol=1e-12)
            assert math.isclose(found[p, 2 * i + 1], math.cos(angle), abs_tol=1e-12)


@pytest.mark.parametrize("block", [SinusoidalPositions(6), LearnedPositions(6, max_length=12, skip=2)])
def test_positions_go_on_from_the_first(block):
    x = torch.randn(2, 7, 6)
    torch.testing.assert_close(block(x)[:, 4:], block(x[:, 4:], 4))


def test_rotary_goes_on_from_the_first_and_keeps_lengths():
    block = RotaryPositions(4, layout="interleaved")
    x = torch.randn(2, 3, 7, 6)
    torch.testing.assert_close(block(x)[:, :, 4:], block(x[:, :, 4:], 4))
    torch.testing.assert_close(block(x).norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(block(x)[..., 4:], x[..., 4:])


def test_too_long_an_input_is_refused():
    with pytest.raises(ValueError, match=r"^LearnedPositions: 13 positions, expected at most max_length=12$"):
        LearnedPositions(6, max_length=12)(torch.randn(1, 13, 6))
