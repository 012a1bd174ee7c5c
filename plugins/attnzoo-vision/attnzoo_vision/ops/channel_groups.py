"""Maps whose channels fall into groups, each with weights of its own."""

import torch
from torch import Tensor

from attnzoo_vision.ops.layout import channels_last_view


def scale_groups(x_nchw: Tensor, weight_nghw: Tensor) -> Tensor:
    """Return ``x_nchw``, all channels of a group scaled by the map of the group, in the memory layout of ``x_nchw``."""
    groups, x_nhwc = weight_nghw.shape[1], channels_last_view(x_nchw)
    if x_nhwc is None:
        return (torch.unflatten(x_nchw, 1, (groups, -1)) * weight_nghw.unsqueeze(2)).flatten(1, 2)
    weight_nhwg1 = weight_nghw.permute(0, 2, 3, 1).unsqueeze(4)
    return (torch.unflatten(x_nhwc, 3, (groups, -1)) * weight_nhwg1).flatten(3).permute(0, 3, 1, 2)
