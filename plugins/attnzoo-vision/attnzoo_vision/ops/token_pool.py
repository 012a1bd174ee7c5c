"""Pooling a map by the attention of one leading token."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo.layers import Affine
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.tokens import as_tokens


def with_lead(x_nchw: Tensor, class_token_1c: Tensor | None) -> Tensor:
    """Return ``(N, 1 + L, C)``: the mean of the pixels, or the class token, in front of the pixels."""
    if class_token_1c is None:
        lead_n1c = global_mean(x_nchw).unsqueeze(1)
    else:
        lead_n1c = class_token_1c.to(x_nchw.dtype).expand(x_nchw.shape[0], 1, -1)
    return torch.cat([lead_n1c, as_tokens(x_nchw)], dim=1)


def without_lead(y_nlc: Tensor, like_nchw: Tensor) -> Tensor:
    """Return the map ``(N, C, H, W)`` of all tokens but the first; H and W are those of ``like_nchw``."""
    y: Tensor = y_nlc[:, 1:].transpose(1, 2).unflatten(2, like_nchw.shape[2:])
    return y


def lead_query(tokens_nlc: Tensor, qkv: Affine, heads: int) -> Tensor:
    """Return the query of the first token, ``(N, heads, D)``."""
    width = len(qkv.weight) // 3
    bias = None if qkv.bias is None else qkv.bias[:width]
    y: Tensor = F.linear(tokens_nlc[:, 0], qkv.weight[:width], bias).unflatten(1, (heads, -1))
    return y


def lead_weights(tokens_nlc: Tensor, qkv: Affine, heads: int) -> Tensor:
    """Return the weights of all tokens for the first, ``(N, heads, L)``.

    The query goes through the transposed projection of the keys, so that no key is ever computed.
    """
    width = len(qkv.weight) // 3
    query_ngd = lead_query(tokens_nlc, qkv, heads) * (width // heads) ** -0.5
    key_gdc = qkv.weight[width : 2 * width].unflatten(0, (heads, -1))
    logits_ngl = torch.matmul(torch.einsum("ngd,gdc->ngc", query_ngd, key_gdc), tokens_nlc.transpose(1, 2))
    if qkv.bias is not None:  # one number for each head, without effect behind the softmax
        bias_gd = qkv.bias[width : 2 * width].unflatten(0, (heads, -1))
        logits_ngl = logits_ngl + (query_ngd * bias_gd).sum(dim=2, keepdim=True)
    return torch.softmax(logits_ngl, dim=2)


def lead_values(weight_ngl: Tensor, tokens_nlc: Tensor, qkv: Affine) -> Tensor:
    """Return the weighted values ``(N, heads * D)``: the tokens are weighted first, and projected once."""
    heads, width = weight_ngl.shape[1], len(qkv.weight) // 3
    value_gdc = qkv.weight[2 * width :].unflatten(0, (heads, -1))
    mixed_ngc = torch.matmul(weight_ngl, tokens_nlc)
    y_ne = torch.einsum("ngc,gdc->ngd", mixed_ngc, value_gdc).flatten(1)
    return y_ne if qkv.bias is None else y_ne + qkv.bias[2 * width :]
