"""Attention with a sink: one more score for each head, always visible, that has no value."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_sequence.ops.attend import attend, masked_softmax


def attend_with_sink(
    query_nhld: Tensor,
    key_ngmd: Tensor,
    value_ngmd: Tensor,
    *,
    sink_h: Tensor,
    visible: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Return ``softmax([q k^T / sqrt(d); sink_h])`` without its last column, times the values, by the fused kernel.

    The sink is a key of its own, told by one more channel: the query has ``sink_h sqrt(d)`` there, the sink key 1 and
    all others 0. It comes first, and a first query that is thrown away keeps the triangle of ``causal`` square. The
    values get a channel too: the fused kernel takes equal widths only.
    """
    scale = query_nhld.shape[-1] ** -0.5
    batch, heads, length, _ = query_nhld.shape
    channel = (sink_h / scale).to(query_nhld.dtype)[None, :, None, None].expand(batch, heads, length, 1)
    query = torch.cat([query_nhld, channel], dim=-1)
    sink_key = F.pad(key_ngmd.new_ones(1, 1, 1, 1), (key_ngmd.shape[-1], 0)).expand(*key_ngmd.shape[:2], -1, -1)
    key = torch.cat([sink_key, F.pad(key_ngmd, (0, 1))], dim=2)
    value = F.pad(value_ngmd, (0, 1, 1, 0))
    if causal:
        query = F.pad(query, (0, 0, 1, 0))
        return attend(query, key, value, causal=True, scale=scale, dropout=dropout)[:, :, 1:, :-1]
    if visible is not None:
        visible = F.pad(visible, (1, 0), value=True)
    return attend(query, key, value, visible=visible, scale=scale, dropout=dropout)[..., :-1]


def weights_with_sink(query_nhld: Tensor, key_ngmd: Tensor, *, sink_h: Tensor, visible: Tensor | None) -> Tensor:
    """Return the weights of the keys ``(n, h, l, m)``; they sum to one minus the weight of the sink."""
    ratio = query_nhld.shape[1] // key_ngmd.shape[1]
    score_nhlm = query_nhld @ key_ngmd.repeat_interleave(ratio, dim=1).transpose(-2, -1) * query_nhld.shape[-1] ** -0.5
    sink_nhl1 = sink_h.to(score_nhlm.dtype)[None, :, None, None].expand(*score_nhlm.shape[:3], 1)
    if visible is not None:
        visible = F.pad(visible, (0, 1), value=True)
    return masked_softmax(torch.cat([score_nhlm, sink_nhl1], dim=-1), visible)[..., :-1]
