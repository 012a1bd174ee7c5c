"""Residual attention: a trunk of residual units, weighted by a mask from an hourglass beside it."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input
from attnzoo_vision.ops.convolution import convolve, convolve_through
from attnzoo_vision.ops.joined_norm import conv_and_norm, fresh_norm
from attnzoo_vision.ops.rectify import rectify_
from attnzoo_vision.ops.resize import resize
from attnzoo_vision.ops.window_pooling import max_pool2d


class ResidualAttention(nn.Module):
    """Add to a trunk its product with a mask, which an hourglass of residual units computes for every element.

    With ``R`` a pre-activation bottleneck: ``u = R(x); t = R(R(u)); y = R(t * (1 + mask(u)))``. The mask goes down
    ``depth`` times by ``R(maxpool(.))``, twice ``R`` at the bottom, and up by ``R(resize(.) + R(skip))``; at the top
    come two 1x1 convolutions, each after BN and ReLU, and a sigmoid.

    Args:
        channels: Channels of the input.
        depth: How often the mask branch halves the map; 3, 2, 1 in the network's stages of 56, 28 and 14 pixels.
        extra_skips: Whether each resized map is also added to the map of its level (at the top, to the trunk) as it is,
            as in the PyTorch port; the authors' graph does not.
        pool_padding: Border in pixels around the map whose windows of 3x3 pixels, two apart, are pooled: 1, as in the
            port, or 0, as in the authors' graph, where the windows start at the first pixel and the last of an even
            side is cut off. A side of one pixel then stays as it is.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``channels`` is below 4, ``depth`` is negative, or ``pool_padding`` is neither 0 nor 1.

    Source:
        Wang et al., "Residual Attention Network for Image Classification", CVPR 2017, arXiv:1704.06904, section 3.
        Authors' graph: github.com/fwang91/residual-attention-network @ bc207a8, Attention-56-deploy.prototxt; checked
        against github.com/tengshaofeng/ResidualAttentionNetwork-pytorch @ 88ed90f, model/attention_module.py.
        Deviations: the default pools as the port does, see ``pool_padding``. The port's unused convolutions
        (``conv4``) are left out, and sizes come from the input.
    """

    def __init__(
        self, channels: int, *, depth: int = 3, extra_skips: bool = False, pool_padding: Literal[0, 1] = 1
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("ResidualAttention", 4, channels=channels)
        if depth < 0:
            message = f"ResidualAttention: depth={depth} is negative; the authors use 3, 2 and 1"
            raise ValueError(message)
        check_choice("ResidualAttention", "pool_padding", pool_padding, (0, 1))
        self.pool_padding = pool_padding
        self.depth = depth
        self.extra_skips = extra_skips
        self.first = _Unit(channels)
        self.trunk = nn.Sequential(_Unit(channels), _Unit(channels))
        self.down = nn.ModuleList(_Unit(channels) for _ in range(depth - 1))
        self.skip = nn.ModuleList(_Unit(channels) for _ in range(depth - 1))
        self.bottom = nn.Sequential(_Unit(channels), _Unit(channels))
        self.up = nn.ModuleList(_Unit(channels) for _ in range(depth - 1))
        self.mask = nn.Sequential(*_preactivated(channels), *_preactivated(channels))
        self.last = _Unit(channels)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the weight of every element of the trunk, ``mask``: ``(N, C, H, W)``."""
        check_input("ResidualAttention", x_nchw, self.channels)
        first_nchw = self.first(x_nchw)
        return {"mask": self._mask(first_nchw, self.trunk(first_nchw))}

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the last unit of the trunk plus its product with the mask."""
        check_input("ResidualAttention", x_nchw, self.channels)
        first_nchw = self.first(x_nchw)
        trunk_nchw = self.trunk(first_nchw)
        y_nchw: Tensor = self.last(torch.addcmul(trunk_nchw, trunk_nchw, self._mask(first_nchw, trunk_nchw)))
        return y_nchw

    def _mask(self, x_nchw: Tensor, trunk_nchw: Tensor) -> Tensor:
        levels: list[Tensor] = []
        for down in self.down:
            x_nchw = down(self._halved(x_nchw))
            levels.append(x_nchw)
        x_nchw = self.bottom(self._halved(x_nchw) if self.depth else x_nchw)
        # the deepest level comes first on the way up
        for up, skip, level in zip(self.up, reversed(self.skip), reversed(levels), strict=True):
            joined = resize(x_nchw, level.shape[2:]) + skip(level)
            x_nchw = up(joined + level if self.extra_skips else joined)
        if self.depth:
            x_nchw = resize(x_nchw, trunk_nchw.shape[2:])
            x_nchw = x_nchw + trunk_nchw if self.extra_skips else x_nchw
        return torch.sigmoid(convolve_through(self.mask, x_nchw))

    def _halved(self, x_nchw: Tensor) -> Tensor:
        if self.pool_padding:
            return max_pool2d(x_nchw, 3, stride=2, padding=1)
        # torch finds no place for a window of three pixels on a side of one; sides from two on have one
        window = [3 if size > 1 else 1 for size in x_nchw.shape[2:]]
        return max_pool2d(x_nchw, window, stride=2, ceil_mode=True)


class _Unit(nn.Module):
    """Pre-activation bottleneck with an identity shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = channels // 4
        self.bn1 = BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn3 = BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` plus its bottleneck."""
        y = conv_and_norm(self.conv1, self.bn2, rectify_(fresh_norm(self.bn1, x_nchw)))
        y = conv_and_norm(self.conv2, self.bn3, rectify_(y))
        return convolve(self.conv3, rectify_(y)) + x_nchw


def _preactivated(channels: int) -> list[nn.Module]:
    return [BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False)]
