"""Pooling a map by the attention of one leading token."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo.layers import Affine, split
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.position_pooling import position_logits, weighted_sums


def lead_token(x_nchw: Tensor, class_token_1c: Tensor | None) -> Tensor:
    """Return ``(N, C)``: the mean of the pixels, or the class token."""
    if class_token_1c is None:
        return global_mean(x_nchw)
    return class_token_1c.to(x_nchw.dtype).expand(x_nchw.shape[0], -1)


def join_lead(lead_nc: Tensor, pixel_ncl: Tensor) -> Tensor:
    """Return ``(N, 1 + L, C)``: the leading token in front of the pixels."""
    return torch.cat([lead_nc.unsqueeze(1), pixel_ncl.transpose(1, 2)], dim=1)


def without_lead(y_nlc: Tensor, like_nchw: Tensor) -> Tensor:
    """Return the map ``(N, C, H, W)`` of all tokens but the first; H and W are those of ``like_nchw``."""
    y: Tensor = y_nlc[:, 1:].transpose(1, 2).unflatten(2, like_nchw.shape[2:])
    return y


def split_projection(qkv: Affine) -> tuple[Affine, Affine, Affine]:
    """Return the projections of queries, keys and values."""
    query, key, value = split(qkv, [len(qkv.weight) // 3] * 3)
    return query, key, value


def lead_query(lead_nc: Tensor, query: Affine, heads: int) -> Tensor:
    """Return the scaled query of the leading token, ``(N, heads, D)``."""
    query_ngd: Tensor = F.linear(lead_nc, *query).unflatten(1, (heads, -1))
    scaled_ngd: Tensor = query_ngd * query_ngd.shape[2] ** -0.5
    return scaled_ngd


def lead_weights(lead_nc: Tensor, pixel_ncl: Tensor, query: Affine, key: Affine, heads: int) -> Tensor:
    """Return the weights of all tokens for the leading one, ``(N, heads, 1 + L)``.

    The query goes through the transposed projection of the keys, so that no key is ever computed.
    """
    query_ngd = lead_query(lead_nc, query, heads)
    through_ngc = torch.einsum("ngd,gdc->ngc", query_ngd, key.weight.unflatten(0, (heads, -1)))
    lead_logit_ng1 = torch.matmul(through_ngc, lead_nc.unsqueeze(2))
    logits_ngl = torch.cat([lead_logit_ng1, position_logits(pixel_ncl, through_ngc)], dim=2)
    if key.bias is not None:  # one number for each head, without effect behind the softmax
        logits_ngl = logits_ngl + (query_ngd * key.bias.unflatten(0, (heads, -1))).sum(dim=2, keepdim=True)
    return torch.softmax(logits_ngl, dim=2)


def lead_values(weight_ngl: Tensor, lead_nc: Tensor, pixel_ncl: Tensor, value: Affine) -> Tensor:
    """Return the weighted values ``(N, heads * D)``: the tokens are weighted first, and projected once."""
    lead_ng1, rest_ngl = weight_ngl.split([1, pixel_ncl.shape[2]], dim=2)
    mixed_ngc = weighted_sums(pixel_ncl, rest_ngl) + lead_ng1 * lead_nc.unsqueeze(1)
    value_gdc = value.weight.unflatten(0, (weight_ngl.shape[1], -1))
    y_ne = torch.einsum("ngc,gdc->ngd", mixed_ngc, value_gdc).flatten(1)
    return y_ne if value.bias is None else y_ne + value.bias
