"""A map scaled by one weight for each channel and one for each position, in the memory order of the map."""

import torch
from torch import Tensor

from attnzoo_vision.ops.axis_pooling import channels_last_view


def scale_by_sum(x_nchw: Tensor, channel_nc: Tensor, spatial_n1l: Tensor) -> Tensor:
    """Return ``x_nchw * (channel + spatial)``."""
    x, channel, spatial, is_nhwc = _aligned(x_nchw, channel_nc, spatial_n1l)
    weight = channel + spatial
    y = weight.mul_(x) if _reusable(weight, x) else x * weight
    return y.permute(0, 3, 1, 2) if is_nhwc else y


def scale_by_both(x_nchw: Tensor, channel_nc: Tensor, spatial_n1l: Tensor) -> Tensor:
    """Return ``x_nchw * channel * spatial``."""
    x, channel, spatial, is_nhwc = _aligned(x_nchw, channel_nc, spatial_n1l)
    y = x * channel
    y = y.mul_(spatial) if _reusable(y, spatial) else y * spatial
    return y.permute(0, 3, 1, 2) if is_nhwc else y


def _aligned(x_nchw: Tensor, channel_nc: Tensor, spatial_n1l: Tensor) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Return the three with the same axes, those of the memory, and whether these are ``N, H, W, C``."""
    spatial_n1hw = torch.unflatten(spatial_n1l, 2, x_nchw.shape[2:])
    x_nhwc = channels_last_view(x_nchw)
    if x_nhwc is None:
        return x_nchw, channel_nc[:, :, None, None], spatial_n1hw, False
    return x_nhwc, channel_nc[:, None, None, :], spatial_n1hw.permute(0, 2, 3, 1), True


def _reusable(fresh: Tensor, other: Tensor) -> bool:
    """Say whether a product may be written over ``fresh``: nothing is recorded, and its type is the product's."""
    recorded = torch.is_grad_enabled() or torch.compiler.is_compiling()
    return not recorded and torch.result_type(fresh, other) == fresh.dtype
