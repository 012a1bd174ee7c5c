"""Sums over the positions of a map with weights of its own, in the products that need no copy in either layout."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.layout import is_channels_last
from attnzoo_vision.ops.vector_product import vector_product


def position_logits(x_ncs: Tensor, weight_1c: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return one number for each position, ``(N, 1, L)``, by the weight ``(1, C)`` or one a sample, ``(N, 1, C)``."""
    x_ncl = x_ncs.flatten(2)
    if is_channels_last(x_ncs) and weight_1c.dim() == 2:
        return F.linear(x_ncl.transpose(1, 2), weight_1c, bias).transpose(1, 2)
    # bmm of the expanded weight: matmul would copy the map transposed first
    weight_n1c = weight_1c.expand(x_ncl.shape[0], -1, -1)
    return vector_product(weight_n1c, x_ncl) if bias is None else torch.baddbmm(bias, weight_n1c, x_ncl)


def position_weights(x_ncs: Tensor, weight_1c: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the softmax of `position_logits` over the positions, ``(N, 1, L)``."""
    return torch.softmax(position_logits(x_ncs, weight_1c, bias), dim=2)


def weighted_sum(x_ncs: Tensor, weight_n1l: Tensor) -> Tensor:
    """Return the sum of the positions with these weights, ``(N, C)``."""
    x_ncl = x_ncs.flatten(2)
    if is_channels_last(x_ncs):
        return vector_product(weight_n1l, x_ncl.transpose(1, 2)).squeeze(1)
    return torch.bmm(x_ncl, weight_n1l.transpose(1, 2)).squeeze(2)
