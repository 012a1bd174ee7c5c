"""Sums over all pairs of two sets of tokens that never form the table of pairs."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.float16 import in_float32
from attnzoo_vision.ops.query_blocks import attend_by_blocks, narrow_keys


def attend(query_nld: Tensor, key_nmd: Tensor, value_nme: Tensor, scale: float) -> Tensor:
    """Return softmax attention of one head, ``(N, L, E)``, without forming its ``L x M`` map.

    The fused kernels want one width for keys and values, so the narrower is filled with zeros, which changes nothing.
    Keys much narrower than the values go by blocks of queries instead, where that is quicker.
    """
    if narrow_keys(query_nld, value_nme):
        return attend_by_blocks(query_nld, key_nmd, value_nme, scale)
    width, value_width = query_nld.shape[-1], value_nme.shape[-1]
    if width < value_width:
        query_nld = F.pad(query_nld, (0, value_width - width))
        key_nmd = F.pad(key_nmd, (0, value_width - width))
    elif value_width < width:
        value_nme = F.pad(value_nme, (0, width - value_width))
    # the fused kernels also want the channels of a token side by side
    query_nld, key_nmd = query_nld.contiguous(), key_nmd.contiguous()
    value_nme = value_nme if value_nme.stride(2) == 1 else value_nme.contiguous()
    y_n1le = F.scaled_dot_product_attention(
        query_nld.unsqueeze(1), key_nmd.unsqueeze(1), value_nme.unsqueeze(1), scale=scale
    )
    return y_n1le.squeeze(1)[..., :value_width]


def dot_product(query_nld: Tensor, key_nmd: Tensor, value_nme: Tensor) -> Tensor:
    """Return ``(query key^T) value / M``, in the order of products that is cheaper."""
    return in_float32(_dot_product, query_nld, key_nmd, value_nme).to(value_nme.dtype)


def _dot_product(query_nld: Tensor, key_nmd: Tensor, value_nme: Tensor) -> Tensor:
    keys, width = value_nme.shape[1:]
    if keys < width and not torch.compiler.is_exporting():
        return torch.bmm(torch.bmm(query_nld, key_nmd.transpose(1, 2)), value_nme) / keys
    return torch.bmm(query_nld, torch.bmm(key_nmd.transpose(1, 2), value_nme) / keys)


def pairwise_relu_mean(a_nl: Tensor, b_nm: Tensor, value_nme: Tensor) -> Tensor:
    """Return ``sum_j relu(a_i + b_j) value_j / M``, ``(N, L, E)``, exact and in ``(L + M) log M`` steps.

    With the keys sorted by falling ``b``, the pairs above zero are a prefix of them whose length depends on ``a_i``:
    ``a_i`` times the prefix sum of the values plus the prefix sum of ``b_j value_j``.
    """
    return in_float32(_pairwise_relu_mean, a_nl, b_nm, value_nme).to(value_nme.dtype)


def _pairwise_relu_mean(a_nl: Tensor, b_nm: Tensor, value_nme: Tensor) -> Tensor:
    keys = b_nm.shape[1]
    if keys <= 2 * value_nme.shape[2] and not torch.compiler.is_exporting():
        return torch.bmm(torch.relu(a_nl.unsqueeze(2) + b_nm.unsqueeze(1)), value_nme) / keys
    below_nm, order_nm = torch.sort(-b_nm, dim=1)
    sorted_nme = value_nme.gather(1, order_nm.unsqueeze(2).expand_as(value_nme))
    terms_nmf = torch.cat([sorted_nme, sorted_nme * -below_nm.unsqueeze(2)], dim=2)
    prefix_nmf = F.pad(terms_nmf.cumsum(dim=1), (0, 0, 1, 0))
    count_nl = torch.searchsorted(below_nm.detach(), a_nl.detach())
    count_nlf = count_nl.unsqueeze(2).expand(-1, -1, prefix_nmf.shape[2])
    values_nle, weighted_nle = prefix_nmf.gather(1, count_nlf).chunk(2, dim=2)
    return (a_nl.unsqueeze(2) * values_nle + weighted_nle) / keys
