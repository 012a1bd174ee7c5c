"""Multi-head attention on tokens: splitting, merging, the fused product and the map it never makes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_vision.ops.compiling import kept_softmax, may_specialise
from attnzoo_vision.ops.layout import is_channels_last

_NARROW = 32  # width of a head, and
_SMALL = 512  # numbers of all its keys, up to which the map is quicker in training


def split_heads(x_nlc: Tensor, heads: int) -> Tensor:
    """Return ``(N, heads, L, C / heads)``, a view."""
    y: Tensor = x_nlc.unflatten(2, (heads, -1)).transpose(1, 2)
    return y


def project_heads(x_nlc: Tensor, qkv: nn.Linear, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values, ``(N, heads, L, D)`` each, of the one projection that makes all three."""
    query, key, value = (split_heads(part, heads) for part in qkv(x_nlc).chunk(3, dim=2))
    return query, key, value


def merge_heads(y_ngld: Tensor) -> Tensor:
    """Return ``(N, L, heads * D)``."""
    if torch.compiler.is_exporting():  # a view would hold for the strides of one attention kernel alone
        return torch.cat(y_ngld.unbind(1), dim=2)
    return y_ngld.transpose(1, 2).flatten(2)


def heads_to_map(y_ngld: Tensor, like_nchw: Tensor) -> Tensor:
    """Return the map ``(N, heads * D, H, W)`` in the memory layout of ``like_nchw``, whose H and W it has."""
    if is_channels_last(like_nchw):
        y: Tensor = merge_heads(y_ngld).transpose(1, 2).unflatten(2, like_nchw.shape[2:])
        return y
    y = y_ngld.transpose(2, 3).flatten(1, 2).contiguous().unflatten(2, like_nchw.shape[2:])
    return y


def attend_heads(
    query_ngld: Tensor,
    key_ngmd: Tensor,
    value_ngme: Tensor,
    *,
    scale: float,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Return ``softmax(scale * query key^T + bias) value`` without forming the map, ``(N, G, L, E)``.

    The fused kernels want one width for keys and values, so the narrower is filled with zeros, which changes nothing.
    On a CPU they give a bias no gradient; torch would form the map then, more slowly than it is formed here. Nor do
    they pay in training where few keys meet narrow heads: what is read again is more than the map.
    """
    if _has_small_maps(query_ngld, key_ngmd) if bias is None else _is_learned_on_cpu(bias):
        weight_nglm = attention_map(query_ngld, key_ngmd, scale=scale, bias=bias)
        return torch.matmul(F.dropout(weight_nglm, dropout), value_ngme)
    width, value_width = query_ngld.shape[-1], value_ngme.shape[-1]
    if width < value_width:
        query_ngld = F.pad(query_ngld, (0, value_width - width))
        key_ngmd = F.pad(key_ngmd, (0, value_width - width))
    elif value_width < width:
        value_ngme = F.pad(value_ngme, (0, width - value_width))
    y_ngle = F.scaled_dot_product_attention(
        query_ngld, key_ngmd, value_ngme, attn_mask=bias, dropout_p=dropout, scale=scale
    )
    return y_ngle[..., :value_width]


def _is_learned_on_cpu(bias: Tensor) -> bool:
    return torch.is_grad_enabled() and bias.requires_grad and bias.device.type == "cpu" and may_specialise(bias)


def _has_small_maps(query_ngld: Tensor, key_ngmd: Tensor) -> bool:
    trained = torch.is_grad_enabled() and (query_ngld.requires_grad or key_ngmd.requires_grad)
    if not trained or query_ngld.device.type != "cpu" or not may_specialise(query_ngld):
        return False
    keys, width = key_ngmd.shape[-2:]
    return width <= _NARROW and keys * width <= _SMALL


def attention_map(query_ngld: Tensor, key_ngmd: Tensor, *, scale: float, bias: Tensor | None = None) -> Tensor:
    """Return the map ``(N, G, L, M)`` that :func:`attend_heads` never makes."""
    logits_nglm = torch.matmul(query_ngld * scale, key_ngmd.transpose(-2, -1))
    return kept_softmax(logits_nglm if bias is None else logits_nglm + bias, dim=-1)
