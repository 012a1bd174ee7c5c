"""What the graph attentions do with their heads: joined, or averaged in an output layer, and a bias added."""

import torch
from torch import Tensor, nn

from attnzoo_sequence.ops.attend import merge_heads


def output_bias(num_heads: int, head_dim: int, average: bool) -> nn.Parameter:
    """Return a bias of zeros for the channels that :func:`join_heads` gives."""
    return nn.Parameter(torch.zeros(head_dim if average else num_heads * head_dim))


def join_heads(out_nhld: Tensor, average: bool, bias: Tensor | None) -> Tensor:
    """Return the heads side by side, ``(n, l, h d)``, or their average, ``(n, l, d)``, and ``bias`` added."""
    out = out_nhld.sum(dim=1) / out_nhld.shape[1] if average else merge_heads(out_nhld)
    return out if bias is None else out + bias
