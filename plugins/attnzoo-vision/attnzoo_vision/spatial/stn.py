"""Spatial transformer with its localisation network."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.adaptive_pooling import adaptive_mean
from attnzoo_vision.ops.affine_grid import affine_grid, sample
from attnzoo_vision.ops.affine_matrix import affine_matrix, check_transforms, identity_of
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.rectify import rectify
from attnzoo_vision.ops.window_pooling import max_pool2d

_ANY_SIZE_POOL = 3


class STN(nn.Module):
    """Find an affine matrix from the map by a small network and resample the map with it.

    ``y = sample(x, theta)``, ``theta = W2 relu(W1 flatten(relu(pool(conv5(relu(pool(conv7(x))))))))``

    Args:
        channels: Channels of the input.
        input_size: Height and width of the input in pixels, for the published network without padding, whose first
            linear layer fits sizes that leave as many cells alone. None pads the convolutions and averages their
            result to 3 by 3 cells, so that every size can be given.
        conv_channels: Channels of the two convolutions, with kernels of 7 and 5 pixels.
        hidden_channels: Hidden units of the two linear layers.
        output_size: Height and width of the output in pixels; None means those of the input.
        padding_mode: What lies outside the map.
        align_corners: -1 and 1 are the centres of the border pixels, as in the paper, instead of their outer edges.
        transforms: What the matrix is made of, some of ``rotation`` (an angle in radians), ``scale`` (a factor) and
            ``translation`` (x and y): ``theta = R(a) S(s) T(t)``, so the translation comes first. The last layer gives
            their numbers in this order. None means a full matrix of six numbers.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, output_size[0], output_size[1])``; any H and W from 1 on if ``input_size`` is None.

    Raises:
        ValueError: ``input_size`` is below 18 by 18 or the input does not fit it, a list has not two numbers,
            ``transforms`` has others than those above, or another argument is out of its range.

    Source:
        Jaderberg et al., "Spatial Transformer Networks", NeurIPS 2015, arXiv:1506.02025, eq. 1-5.
        Localisation network: pytorch/tutorials @ 0023ff0, intermediate_source/spatial_transformer_tutorial.py; the
        authors released no code. The last layer starts at the identity, as there. The order of ``transforms`` is of
        github.com/qassemoquab/stnbhwd @ 88e7a83, AffineTransformMatrixGenerator.lua, whose translation is y and x.
        Deviations: the form for every size (``input_size`` None) has no published counterpart.
    """

    def __init__(
        self,
        channels: int,
        *,
        input_size: list[int] | None = None,
        conv_channels: list[int] | tuple[int, int] = (8, 10),
        hidden_channels: int = 32,
        output_size: list[int] | None = None,
        padding_mode: Literal["zeros", "border", "reflection"] = "zeros",
        align_corners: bool = True,
        transforms: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("STN", 1, channels=channels, hidden_channels=hidden_channels)
        check_choice("STN", "padding_mode", padding_mode, ("zeros", "border", "reflection"))
        if transforms is not None:
            check_transforms("STN", transforms)
        self.transforms = transforms
        self.input_size = _pair("input_size", input_size, 18)
        self.output_size = _pair("output_size", output_size, 1)
        first, second = _pair("conv_channels", conv_channels, 1) or (8, 10)
        self.padding_mode = padding_mode
        self.align_corners = align_corners
        same = self.input_size is None
        self.conv1 = nn.Conv2d(channels, first, 7, padding=3 if same else 0)
        self.conv2 = nn.Conv2d(first, second, 5, padding=2 if same else 0)
        cells = _ANY_SIZE_POOL**2 if self.input_size is None else _cells(*self.input_size)
        self.hidden = nn.Linear(second * cells, hidden_channels)
        self.theta = nn.Linear(hidden_channels, len(self._identity()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew; the last layer gives the identity for every input."""
        for layer in (self.conv1, self.conv2, self.hidden):
            layer.reset_parameters()
        nn.init.zeros_(self.theta.weight)
        with torch.no_grad():
            self.theta.bias.copy_(torch.tensor(self._identity()))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` resampled."""
        return sample(x_nchw, self._grid(x_nchw), "bilinear", self.padding_mode, self.align_corners)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``grid``, the point (x, y) that each pixel of the output is read at, ``(N, H, W, 2)``."""
        return {"grid": self._grid(x_nchw)}

    def _grid(self, x_nchw: Tensor) -> Tensor:
        check_input("STN", x_nchw, self.channels)
        numbers_np = self.theta(torch.relu(self.hidden(self._features(x_nchw))))
        if self.transforms is None:
            theta_n23 = numbers_np.unflatten(1, (2, 3))
        else:
            theta_n23 = affine_matrix(numbers_np, self.transforms)
        height, width = self.output_size or x_nchw.shape[2:]
        return affine_grid(theta_n23, height, width, align_corners=self.align_corners)

    def _identity(self) -> list[float]:
        return [1.0, 0.0, 0.0, 0.0, 1.0, 0.0] if self.transforms is None else identity_of(self.transforms)

    def _features(self, x_nchw: Tensor) -> Tensor:
        same = self.input_size is None
        if self.input_size and _cells(*x_nchw.shape[2:]) != _cells(*self.input_size):
            message = f"STN: input of {tuple(x_nchw.shape[2:])} pixels, expected input_size={self.input_size}; "
            message += "resize it, or build the block with its size or input_size=None"
            raise ValueError(message)
        for conv in (self.conv1, self.conv2):
            x_nchw = rectify(max_pool2d(convolve(conv, x_nchw), 2, ceil_mode=same))
        if same:
            x_nchw = adaptive_mean(x_nchw, _ANY_SIZE_POOL, _ANY_SIZE_POOL)
        return x_nchw.flatten(1)


def _cells(height: int, width: int) -> int:
    """Return how many cells the convolutions without padding leave."""
    down, across = (max(((size - 6) // 2 - 4) // 2, 0) for size in (height, width))
    return down * across


def _pair(name: str, value: list[int] | tuple[int, int] | None, least: int) -> tuple[int, int] | None:
    if value is None:
        return None
    if len(value) != 2 or min(value) < least:
        message = f"STN: {name}={list(value)} is not two numbers of at least {least}; give two such numbers"
        raise ValueError(message)
    return value[0], value[1]
