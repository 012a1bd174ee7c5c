"""Position attention module of DANet."""

import torch
from torch import Tensor, nn

from attnzoo.layers import Affine, affine, join, reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_input
from attnzoo_vision.ops.pairwise import attend
from attnzoo_vision.ops.tokens import as_tokens, project, project_back, tokens_to_map


class DANetPositionAttention(nn.Module):
    """Add to each pixel the attention of that pixel to all pixels, times a learned factor that starts at zero.

    ``y_i = x_i + gamma * sum_j softmax_j(q_i . k_j) v_j`` without a scale, ``q, k, v`` linear in ``x``

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels`` that gives the channels of queries and keys.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``reduction`` leaves no channel for queries and keys.

    Source:
        Fu et al., "Dual Attention Network for Scene Segmentation", CVPR 2019, arXiv:1809.02983, section 3.2.
        Authors' code: github.com/junfu1115/DANet @ b0a0fa0, encoding/nn/da_att.py, PAM_Module.
        Deviations: fused attention, which never forms the map of all pairs; gamma joins the value weights. The bias of
        the keys is kept because checkpoints hold it; the softmax cancels it.
    """

    def __init__(self, channels: int, *, reduction: int = 8) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("DANetPositionAttention", 1, channels=channels, reduction=reduction)
        check_at_most("DANetPositionAttention", "reduction", reduction, "channels", channels)
        self.query = nn.Linear(channels, channels // reduction)
        self.key = nn.Linear(channels, channels // reduction)
        self.value = nn.Linear(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does; the block starts as the identity."""
        reset_layers(self)
        nn.init.zeros_(self.gamma)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` plus what each pixel gathers from all others."""
        check_input("DANetPositionAttention", x_nchw, self.channels)
        value = Affine(*(part * self.gamma for part in affine(self.value).filled()))
        weight, bias = join(affine(self.query), affine(self.key), value)
        hidden = self.query.out_features
        mixed_nlo = as_tokens(project_back(as_tokens(x_nchw), weight, bias, x_nchw))  # in the map's order of memory
        query_nlr, key_nlr, value_nlc = mixed_nlo.tensor_split((hidden, 2 * hidden), dim=2)
        return x_nchw + tokens_to_map(attend(query_nlr, key_nlr, value_nlc, 1.0), x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``pairwise``, the weight of every key (column) for every pixel (row)."""
        check_input("DANetPositionAttention", x_nchw, self.channels)
        query_nlr = project(x_nchw, *affine(self.query))
        key_nlr = project(x_nchw, *affine(self.key))
        return {"pairwise": torch.softmax(torch.bmm(query_nlr, key_nlr.transpose(1, 2)), dim=2)}
