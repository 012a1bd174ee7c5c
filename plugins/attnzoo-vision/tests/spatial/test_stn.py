import pytest
import torch

from attnzoo_vision.spatial.affine_sampler import AffineSampler
from attnzoo_vision.spatial.stn import STN


@pytest.mark.parametrize("input_size", [None, [20, 18]])
def test_it_starts_as_the_identity(input_size):
    x = torch.rand(2, 3, 20, 18)
    torch.testing.assert_close(STN(3, input_size=input_size)(x), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("align_corners", [True, False])
def test_the_grid_is_that_of_torch(align_corners):
    x, theta = torch.rand(2, 3, 5, 7, dtype=torch.float64), torch.randn(2, 2, 3, dtype=torch.float64)
    sampler = AffineSampler(output_size=[4, 6], align_corners=align_corners)
    grid = torch.nn.functional.affine_grid(theta, [2, 3, 4, 6], align_corners)
    torch.testing.assert_close(sampler.attention(x, theta)["grid"], grid)
    expected = torch.nn.functional.grid_sample(x, grid, align_corners=align_corners)
    torch.testing.assert_close(sampler(x, theta), expected)


def test_a_shift_by_one_pixel_moves_the_map():
    x = torch.rand(1, 2, 4, 5)
    theta = torch.tensor([[[1.0, 0.0, 2 / 4], [0.0, 1.0, 0.0]]])
    torch.testing.assert_close(AffineSampler()(x, theta)[..., :-1], x[..., 1:])


def test_an_input_of_another_size_is_refused():
    block = STN(1, input_size=[28, 28])
    with pytest.raises(ValueError, match=r"^STN: input of \(25, 28\) pixels, expected input_size=\(28, 28\)$"):
        block(torch.rand(1, 1, 25, 28))


def test_a_wrong_output_size_is_refused():
    message = r"^AffineSampler: output_size=\[3\] is not \[height, width\], both at least 1$"
    with pytest.raises(ValueError, match=message):
        AffineSampler(output_size=[3])
