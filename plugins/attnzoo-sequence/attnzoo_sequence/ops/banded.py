"""Causal attention within a window in linear time: a block of queries reads its own and the previous block of keys."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_sequence.ops.attend import attend
from attnzoo_sequence.ops.masks import check_key_mask


def banded_attend(
    query_nhld: Tensor,
    key_ngld: Tensor,
    value_ngld: Tensor,
    window_size: int,
    *,
    mask_nl: Tensor | None = None,
    dropout: float = 0.0,
    read: Callable[..., Tensor] = attend,
) -> Tensor:
    """Return attention in which query ``i`` sees the keys ``i - window_size < j <= i``; no ``(l, l)`` tensor is made.

    ``read`` attends within the blocks; it is called as ``attend`` is.
    """
    batch, _, length, _ = query_nhld.shape
    check_key_mask(mask_nl, key_ngld)
    blocks = -(-length // window_size)
    missing = blocks * window_size - length
    query = _blocks(F.pad(query_nhld, (0, 0, 0, missing)), window_size)
    key = _with_previous(F.pad(key_ngld, (0, 0, window_size, missing)), window_size)
    value = _with_previous(F.pad(value_ngld, (0, 0, window_size, missing)), window_size)
    visible = _visible(window_size, blocks, query_nhld.device)
    if mask_nl is not None:
        seen = F.pad(mask_nl, (window_size, missing)).unfold(1, 2 * window_size, window_size)
        visible = visible & seen[:, :, None]
    visible = visible.expand(batch, -1, -1, -1).flatten(0, 1)[:, None]
    read_bhwd = read(query, key, value, visible=visible, dropout=dropout)
    blocks_bhwd: Tensor = read_bhwd.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :length]
    return blocks_bhwd


def _blocks(x_nhld: Tensor, window_size: int) -> Tensor:
    """Cut into blocks that join the batch: ``(n b, h, w, d)``."""
    blocks_bhwd: Tensor = x_nhld.unflatten(2, (-1, window_size)).transpose(1, 2).flatten(0, 1)
    return blocks_bhwd


def _with_previous(x_nhld: Tensor, window_size: int) -> Tensor:
    """Return each block with the one before it, ``(n b, h, 2w, d)``; the input starts with one block of padding."""
    return x_nhld.unfold(2, 2 * window_size, window_size).transpose(1, 2).flatten(0, 1).transpose(-2, -1).contiguous()


def _visible(window_size: int, blocks: int, device: torch.device) -> Tensor:
    """Return ``(1, b, w, 2w)``: the band, and the padding before the first block hidden."""
    query_w1 = torch.arange(window_size, device=device)[:, None]
    key_2w = torch.arange(2 * window_size, device=device)
    band = (key_2w > query_w1) & (key_2w <= query_w1 + window_size)
    real = (torch.arange(blocks, device=device)[:, None] > 0) | (key_2w >= window_size)
    return (band & real[:, None])[None]
