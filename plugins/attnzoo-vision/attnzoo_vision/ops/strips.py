"""Layers along one axis: a map pooled over its height or its width is a sequence of channel vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import affine
from attnzoo_vision.ops.axis_pooling import mean_over_height, mean_over_width
from attnzoo_vision.ops.compiling import may_specialise, runs_plainly, settled
from attnzoo_vision.ops.layout import channels_last_view

_FEW = 64  # pixels up to which the strips are pooled by a product


def pool_strips(x_nchw: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means over W, ``(N, C, H)``, and over H, ``(N, C, W)``."""
    height, width = x_nchw.shape[2:]
    if may_specialise(x_nchw) and height * width <= _FEW and x_nchw.is_contiguous():
        return _pool_by_product(x_nchw)
    return mean_over_width(x_nchw), mean_over_height(x_nchw)


def _pool_by_product(x_nchw: Tensor) -> tuple[Tensor, Tensor]:
    """Pool short rows and columns by one matrix, which a reduction would do number by number."""
    height, width = x_nchw.shape[2:]
    eye_hh = torch.eye(height, dtype=x_nchw.dtype, device=x_nchw.device)
    eye_ww = torch.eye(width, dtype=x_nchw.dtype, device=x_nchw.device)
    rows_lh, columns_lw = eye_hh.repeat_interleave(width, dim=0) / width, eye_ww.repeat(height, 1) / height
    pooled_ncs = torch.matmul(x_nchw.flatten(2), torch.cat([rows_lh, columns_lw], dim=1))
    rows_nch, columns_ncw = pooled_ncs.split([height, width], dim=2)
    return rows_nch, columns_ncw


def join_strips(rows_nch: Tensor, columns_ncw: Tensor) -> Tensor:
    """Return the strips one after the other, ``(N, C, H + W)``, in the memory order that they have."""
    if rows_nch.stride(1) == 1 and rows_nch.shape[1] > 1:
        return torch.cat([rows_nch.transpose(1, 2), columns_ncw.transpose(1, 2)], dim=1).transpose(1, 2)
    return torch.cat([rows_nch, columns_ncw], dim=2)


def project_strip(layer: nn.Linear, x_ncl: Tensor) -> Tensor:
    """Return ``layer`` applied at every position, ``(N, O, L)``, in the memory order of ``x_ncl``."""
    weight_oc, bias_o = affine(layer)
    if x_ncl.stride(1) == 1 and x_ncl.shape[1] > 1:
        return F.linear(x_ncl.transpose(1, 2), weight_oc, bias_o).transpose(1, 2)
    weight_noc = weight_oc.expand(x_ncl.shape[0], -1, -1)
    if bias_o is None:
        return torch.bmm(weight_noc, x_ncl)
    return torch.baddbmm(bias_o[:, None], weight_noc, x_ncl)


def scale_by_strips(x_nchw: Tensor, height_nch: Tensor, width_ncw: Tensor) -> Tensor:
    """Return ``x_nchw`` times the weights of its rows and of its columns."""
    x_nhwc = channels_last_view(x_nchw)
    if x_nhwc is None:
        return _scale(x_nchw, height_nch[:, :, :, None], width_ncw[:, :, None, :])
    row_nh1c = settled(height_nch.transpose(1, 2)).unsqueeze(2)
    column_n1wc = settled(width_ncw.transpose(1, 2)).unsqueeze(1)
    return _scale(x_nhwc, row_nh1c, column_n1wc).permute(0, 3, 1, 2)


def _scale(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    if torch.is_grad_enabled() or not runs_plainly() or row.dtype != x.dtype:
        return x * column * row
    return (column * row).mul_(x)  # reads the map once


def strip_maps(height_nch: Tensor, width_ncw: Tensor) -> dict[str, Tensor]:
    """Return the weights of rows and columns as maps: ``height``, ``(N, C, H, 1)``, and ``width``, ``(N, C, 1, W)``."""
    return {"height": height_nch[:, :, :, None], "width": width_ncw[:, :, None, :]}
