import re

import pytest
import torch
from safetensors.torch import load_file, save_file

import attnzoo
from attnzoo_vision.ops.affine_matrix import affine_matrix
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


def lua_matrix(alpha, scale, shift_yx):
    """Return the 2x3 matrix of AffineTransformMatrixGenerator, rows and columns y and x."""
    rotation = torch.eye(3).double()
    rotation[:2, :2] = torch.tensor([[alpha.cos(), -alpha.sin()], [alpha.sin(), alpha.cos()]])
    translation = torch.eye(3).double()
    translation[:2, 2] = shift_yx
    return (rotation @ torch.diag(torch.stack((scale, scale, torch.ones_like(scale)))) @ translation)[:2]


def test_constrained_transforms_are_those_of_stnbhwd_with_x_before_y():
    torch.manual_seed(0)
    numbers = torch.randn(3, 4).double()
    for theta, (alpha, scale, x, y) in zip(
        affine_matrix(numbers, ["translation", "rotation", "scale"]), numbers, strict=True
    ):
        (a, b, c), (d, e, f) = lua_matrix(alpha, scale, torch.stack((y, x)))
        torch.testing.assert_close(theta, torch.stack((e, d, f, b, a, c)).view(2, 3))


@pytest.mark.parametrize(
    ("transforms", "numbers", "expected"),
    [
        (["translation"], [0.3, -0.2], [1, 0, 0.3, 0, 1, -0.2]),
        (["scale"], [2], [2, 0, 0, 0, 2, 0]),
        (["rotation"], [torch.pi / 2], [0, 1, 0, -1, 0, 0]),
        (["rotation", "translation"], [torch.pi / 2, 0.3, -0.2], [0, 1, -0.2, -1, 0, -0.3]),
        (["scale", "translation"], [2, 0.3, -0.2], [2, 0, 0.6, 0, 2, -0.4]),
    ],
)
def test_a_transform_left_out_is_the_identity(transforms, numbers, expected):
    theta = affine_matrix(torch.tensor([numbers], dtype=torch.float32), transforms)
    torch.testing.assert_close(theta, torch.tensor(expected, dtype=torch.float32).view(1, 2, 3))


@pytest.mark.parametrize(("transforms", "count"), [(["rotation"], 1), (["scale", "translation"], 3)])
def test_a_constrained_transformer_starts_as_the_identity(transforms, count):
    x = torch.rand(2, 3, 9, 8)
    block = STN(3, transforms=transforms)
    assert block.theta.weight.shape == (count, 32)
    assert block.theta.weight.eq(0).all()
    torch.testing.assert_close(block(x), x, rtol=0, atol=1e-5)
    torch.nn.init.normal_(block.theta.weight, std=0.1)
    numbers = block.theta(torch.relu(block.hidden(block._features(x))))
    grid = torch.nn.functional.affine_grid(affine_matrix(numbers, transforms), [2, 3, 9, 8], align_corners=True)
    torch.testing.assert_close(block.attention(x)["grid"], grid)


@pytest.mark.parametrize("transforms", [[], ["shear"], ["scale", "scale"]])
def test_unknown_transforms_are_refused(transforms):
    known = "'rotation', 'scale', 'translation'"
    message = f"STN: transforms={transforms} has an unknown, a repeated or no name; use some of {known}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        STN(3, transforms=transforms)


def test_an_input_of_another_size_is_refused():
    block = STN(1, input_size=[28, 28])
    message = r"^STN: input of \(25, 28\) pixels, expected input_size=\(28, 28\); resize it, or build the block with "
    with pytest.raises(ValueError, match=message + "its size or input_size=None$"):
        block(torch.rand(1, 1, 25, 28))


def test_a_wrong_output_size_is_refused():
    message = r"^AffineSampler: output_size=\[3\] is not \[height, width\], both at least 1; give two such numbers$"
    with pytest.raises(ValueError, match=message):
        AffineSampler(output_size=[3])


@pytest.mark.parametrize("size", [[28], [17, 28]])
def test_an_input_size_too_small_for_the_convolutions_is_refused(size):
    message = f"STN: input_size={size} is not two numbers of at least 18; give two such numbers"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        STN(1, input_size=size)


def test_transforms_are_no_string():
    with pytest.raises(ValueError, match=r"^STN: transforms='scale' is one string; give a list, as \['scale'\]$"):
        STN(3, transforms="scale")


@pytest.mark.parametrize("dialect", ["pytorch-tutorials", "pytorch-tutorials-aligned"])
def test_the_classifier_of_the_tutorial_is_left_out(tmp_path, dialect):
    block = attnzoo.create("stn", channels=1, input_size=[28, 28], align_corners=dialect.endswith("aligned"))
    torch.nn.init.normal_(block.theta.weight, std=0.01)
    attnzoo.export(block, tmp_path / "a.safetensors", dialect)
    rest = torch.nn.ModuleDict({f"{kind}{i}": torch.nn.Linear(2, 3) for kind in ("conv", "fc") for i in (1, 2)})
    save_file({**load_file(tmp_path / "a.safetensors"), **rest.state_dict()}, tmp_path / "net.safetensors")
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(attnzoo.load_foreign(tmp_path / "net.safetensors", "stn", dialect)(x), block(x))
