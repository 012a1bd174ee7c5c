"""Fused attention where queries and values have heads of different size."""

import torch.nn.functional as F
from torch import Tensor

from attnzoo_sequence.ops.attend import attend


def attend_uneven(
    query_nhld: Tensor,
    key_ngmd: Tensor,
    value_ngme: Tensor,
    *,
    visible: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Return ``softmax(scale q k^T) v``; the smaller side is filled with zeros, as the fused kernels need."""
    size, width = query_nhld.shape[-1], value_ngme.shape[-1]
    scale = size**-0.5 if scale is None else scale
    if size < width:
        query_nhld, key_ngmd = F.pad(query_nhld, (0, width - size)), F.pad(key_ngmd, (0, width - size))
    elif width < size:
        value_ngme = F.pad(value_ngme, (0, size - width))
    return attend(query_nhld, key_ngmd, value_ngme, visible=visible, causal=causal, scale=scale)[..., :width]
