"""A map scaled by one weight for each channel and one for each position, in the memory order of the map."""

import torch
from torch import Tensor

from attnzoo_vision.ops.compiling import runs_plainly
from attnzoo_vision.ops.layout import channels_last_view


def scale_by_sum(x_nchw: Tensor, channel_nc: Tensor, spatial_n1l: Tensor) -> Tensor:
    """Return ``x_nchw * (channel + spatial)``."""
    spatial_n1hw = torch.unflatten(spatial_n1l, 2, x_nchw.shape[2:])
    x_nhwc = channels_last_view(x_nchw)
    if x_nhwc is None:
        weight_nchw = channel_nc[:, :, None, None] + spatial_n1hw
        return weight_nchw.mul_(x_nchw) if _reusable(weight_nchw, x_nchw) else x_nchw * weight_nchw
    weight_nhwc = channel_nc[:, None, None, :] + spatial_n1hw.permute(0, 2, 3, 1)
    y_nhwc = weight_nhwc.mul_(x_nhwc) if _reusable(weight_nhwc, x_nhwc) else x_nhwc * weight_nhwc
    return y_nhwc.permute(0, 3, 1, 2)


def scale_by_both(x_nchw: Tensor, channel_nc: Tensor, spatial_n1l: Tensor) -> Tensor:
    """Return ``x_nchw * channel * spatial``."""
    return scale_positions(x_nchw * channel_nc[:, :, None, None], spatial_n1l)


def scale_positions(fresh_nchw: Tensor, spatial_n1l: Tensor) -> Tensor:
    """Return ``fresh_nchw * spatial``; without autograd it may be written over the map, which must be the caller's."""
    spatial_n1hw = torch.unflatten(spatial_n1l, 2, fresh_nchw.shape[2:])
    if _reusable(fresh_nchw, spatial_n1hw):
        return fresh_nchw.mul_(spatial_n1hw)
    return fresh_nchw * spatial_n1hw


def _reusable(fresh: Tensor, other: Tensor) -> bool:
    """Say whether a product may be written over ``fresh``: nothing is recorded, and its type is the product's."""
    recorded = torch.is_grad_enabled() or not runs_plainly()
    return not recorded and torch.result_type(fresh, other) == fresh.dtype
