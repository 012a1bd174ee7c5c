"""Layers along one axis: a map pooled over its height or its width is a sequence of channel vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_vision.ops.axis_pooling import mean_over_height, mean_over_width


def pool_strips(x_nchw: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means over W, ``(N, C, H)``, and over H, ``(N, C, W)``."""
    return mean_over_width(x_nchw), mean_over_height(x_nchw)


def project_strip(layer: nn.Linear, x_ncl: Tensor) -> Tensor:
    """Return ``layer`` applied at every position, ``(N, O, L)``, in the memory order of ``x_ncl``."""
    if x_ncl.stride(1) == 1 and x_ncl.shape[1] > 1:
        return F.linear(x_ncl.transpose(1, 2), layer.weight, layer.bias).transpose(1, 2)
    weight_noc = layer.weight.expand(x_ncl.shape[0], -1, -1)
    if layer.bias is None:
        return torch.bmm(weight_noc, x_ncl)
    return torch.baddbmm(layer.bias[:, None], weight_noc, x_ncl)


def scale_by_strips(x_nchw: Tensor, height_nch: Tensor, width_ncw: Tensor) -> Tensor:
    """Return ``x_nchw`` times the weights of its rows and of its columns."""
    width_nc1w, height_nch1 = width_ncw[:, :, None, :], height_nch[:, :, :, None]
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return x_nchw * width_nc1w * height_nch1
    if x_nchw.is_contiguous() and width_ncw.is_contiguous() and width_ncw.dtype == x_nchw.dtype:
        return (width_nc1w * height_nch1).mul_(x_nchw)  # reads the map once
    return (x_nchw * width_nc1w).mul_(height_nch1)


def normalize_strip(norm: nn.GroupNorm, x_ncl: Tensor) -> Tensor:
    """Return ``norm`` applied to a strip, also of a single number for each group, which ``nn.GroupNorm`` refuses."""
    return torch.group_norm(x_ncl, norm.num_groups, norm.weight, norm.bias, norm.eps)
