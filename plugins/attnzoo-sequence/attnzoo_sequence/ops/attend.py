"""Scaled dot-product attention: the fused form, the explicit weights, and who may see whom."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_sequence.ops.masks import check_key_mask, check_mask, check_pair_mask

ROWS = 256  # queries of one piece where a mask or bias of all pairs shall not be made


def causal_mask(length: int, keys: int, device: torch.device, window_size: int | None = None) -> Tensor:
    """Return ``(length, keys)``, True where a query may see a key; the last query is aligned with the last key.

    With ``window_size`` a query sees that many keys at most, itself included.
    """
    query_l1 = torch.arange(length, device=device)[:, None] + (keys - length)
    key_m = torch.arange(keys, device=device)
    visible_lm = key_m <= query_l1
    return visible_lm if window_size is None else visible_lm & (key_m > query_l1 - window_size)


def visibility(
    query_nhld: Tensor,
    key_ngmd: Tensor,
    *,
    mask_nm: Tensor | None = None,
    attn_mask: Tensor | None = None,
    causal: bool = False,
    window_size: int | None = None,
) -> Tensor | None:
    """Join the masks (True = may attend) into one that broadcasts to ``(n, h, l, m)``; None: all keys are visible.

    ``attn_mask`` is ``(l, m)``, ``(n, l, m)`` or ``(n, h, l, m)``.
    """
    check_key_mask(mask_nm, key_ngmd)
    check_pair_mask(attn_mask, query_nhld, key_ngmd)
    visible = None if mask_nm is None else mask_nm[:, None, None, :]
    if attn_mask is not None:
        attn_mask = attn_mask[:, None] if attn_mask.dim() == 3 else attn_mask
        visible = attn_mask if visible is None else visible & attn_mask
    if causal:
        causal_lm = causal_mask(query_nhld.shape[2], key_ngmd.shape[2], query_nhld.device, window_size)
        visible = causal_lm if visible is None else visible & causal_lm
    return visible


def masked_softmax(score: Tensor, visible: Tensor | None) -> Tensor:
    """Softmax over the last axis among the visible entries; a row without any is zero."""
    if visible is None:
        return score.softmax(dim=-1)
    check_mask(visible, score.shape[-1])
    hidden = ~visible
    return score.masked_fill(hidden, torch.finfo(score.dtype).min).softmax(dim=-1).masked_fill(hidden, 0.0)


def attend(
    query_nhld: Tensor,
    key_ngmd: Tensor,
    value_ngmd: Tensor,
    *,
    visible: Tensor | None = None,
    causal: bool = False,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Return ``softmax(scale q k^T + bias) v`` by the fused kernel; query head ``h`` reads key head ``h // (H / G)``.

    ``causal`` stands for the square triangle and is used where there is no other mask.
    """
    check_mask(visible, key_ngmd.shape[2])
    if bias is not None:
        bias = bias.to(query_nhld.dtype)
        visible = bias if visible is None else torch.where(visible, bias, -torch.inf)
    return F.scaled_dot_product_attention(
        query_nhld,
        key_ngmd,
        value_ngmd,
        attn_mask=visible,
        dropout_p=dropout,
        is_causal=causal,
        scale=scale,
        enable_gqa=query_nhld.shape[1] != key_ngmd.shape[1],
    )


def attend_causal(
    query_nhld: Tensor,
    key_ngmd: Tensor,
    value_ngmd: Tensor,
    *,
    mask_nm: Tensor | None = None,
    read: Callable[..., Tensor] = attend,
) -> Tensor:
    """Attend to the visible keys up to each query's own position; the last query is aligned with the last key.

    The fused kernel knows the square triangle. With a mask, queries go in pieces that see only their keys, so that no
    ``(l, m)`` tensor is made. ``read`` is `attend` or a form of it that takes ``visible`` and ``causal``.
    """
    check_key_mask(mask_nm, key_ngmd)
    length, keys = query_nhld.shape[2], key_ngmd.shape[2]
    if mask_nm is None and length == keys:
        return read(query_nhld, key_ngmd, value_ngmd, causal=True)
    rows = max(length, 1) if torch.compiler.is_compiling() or keys < length else ROWS
    reads = []
    for first in range(0, max(length, 1), rows):
        query = query_nhld[:, :, first : first + rows]
        seen = keys - length + first + query.shape[2]
        key, value = key_ngmd[:, :, :seen], value_ngmd[:, :, :seen]
        visible = visibility(query, key, mask_nm=None if mask_nm is None else mask_nm[:, :seen], causal=True)
        reads.append(read(query, key, value, visible=visible))
    return reads[0] if len(reads) == 1 else torch.cat(reads, dim=2)


def attend_masked(
    query_nhld: Tensor,
    key_ngmd: Tensor,
    value_ngmd: Tensor,
    *,
    causal: bool,
    mask_nm: Tensor | None = None,
    read: Callable[..., Tensor] = attend,
) -> Tensor:
    """Attend to the visible keys, with ``causal`` only up to each query's own position as in `attend_causal`."""
    if causal:
        return attend_causal(query_nhld, key_ngmd, value_ngmd, mask_nm=mask_nm, read=read)
    return read(query_nhld, key_ngmd, value_ngmd, visible=visibility(query_nhld, key_ngmd, mask_nm=mask_nm))


def attention_weights(
    query_nhld: Tensor,
    key_ngmd: Tensor,
    *,
    visible: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Return the weights ``(n, h, l, m)`` that ``attend`` never forms."""
    heads, groups = query_nhld.shape[1], key_ngmd.shape[1]
    if heads != groups:
        key_ngmd = key_ngmd.repeat_interleave(heads // groups, dim=1)
    scale = query_nhld.shape[-1] ** -0.5 if scale is None else scale
    score_nhlm = (query_nhld * scale) @ key_ngmd.transpose(-2, -1)
    if bias is not None:
        score_nhlm = score_nhlm + bias
    return masked_softmax(score_nhlm, visible)


def split_heads(x_nlc: Tensor, num_heads: int) -> Tensor:
    """Return ``(n, l, h d)`` as ``(n, h, l, d)``, without a copy."""
    heads_nhld: Tensor = x_nlc.unflatten(-1, (num_heads, -1)).transpose(1, 2)
    return heads_nhld


def merge_heads(x_nhld: Tensor) -> Tensor:
    """Return ``(n, h, l, d)`` as ``(n, l, h d)``."""
    if torch.compiler.is_exporting():  # a view would hold for the strides of one attention kernel alone
        return torch.cat(x_nhld.unbind(1), dim=2)
    return x_nhld.transpose(1, 2).flatten(2)
