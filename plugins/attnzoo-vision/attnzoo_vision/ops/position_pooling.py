"""Sums over the positions of a map with weights of its own, in the products that need no copy in either layout.

The gradient of a factor has the order of memory in which the product takes it, untransposed. In sums over positions
the map is the factor whose gradient lies as the map does; another gradient's sum with it would read against the grain.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.layout import is_channels_last
from attnzoo_vision.ops.vector_product import vector_product


def position_logits(x_ncs: Tensor, weight_kc: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return K numbers for each position, ``(N, K, L)``, by weights ``(K, C)``, or ``(N, K, C)`` of every sample.

    A bias is one number, or one a sample.
    """
    x_ncl = x_ncs.flatten(2)
    if is_channels_last(x_ncs) and weight_kc.dim() == 2:
        return F.linear(x_ncl.transpose(1, 2), weight_kc, bias).transpose(1, 2)
    # bmm of the expanded weight: matmul would copy the map transposed first
    weight_nkc = weight_kc.expand(x_ncl.shape[0], -1, -1)
    if bias is not None:
        return torch.baddbmm(bias, weight_nkc, x_ncl)
    return vector_product(weight_nkc, x_ncl)


def position_weights(x_ncs: Tensor, weight_1c: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the softmax of `position_logits` over the positions, ``(N, 1, L)``."""
    return torch.softmax(position_logits(x_ncs, weight_1c, bias), dim=2)


def weighted_sum(x_ncs: Tensor, weight_n1l: Tensor) -> Tensor:
    """Return the sum of the positions with these weights, ``(N, C)``."""
    return weighted_sums(x_ncs, weight_n1l).squeeze(1)


def weighted_sums(x_ncs: Tensor, weight_nkl: Tensor) -> Tensor:
    """Return K sums of the positions, ``(N, K, C)``, each with weights of its own."""
    x_ncl = x_ncs.flatten(2)
    if not is_channels_last(x_ncs):
        return torch.bmm(x_ncl, weight_nkl.transpose(1, 2)).transpose(1, 2)
    return vector_product(weight_nkl, x_ncl.transpose(1, 2))
