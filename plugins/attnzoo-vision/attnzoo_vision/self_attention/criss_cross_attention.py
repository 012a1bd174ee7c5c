"""Criss-cross attention (CCNet)."""

import torch
from torch import Tensor, nn

from attnzoo.layers import Affine, affine, join, reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_input
from attnzoo_vision.ops.tokens import project


class CrissCrossAttention(nn.Module):
    """Add to each pixel its attention to the pixels of its row and column; repeated, it reaches all pixels.

    ``y(h, w) = x(h, w) + gamma * (sum_i a_i v(i, w) + sum_j b_j v(h, j))``, where ``[a, b]`` is one softmax over
    ``[q(h, w) . k(i, w) for rows i other than h, q(h, w) . k(h, j) for columns j]``, without a scale

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels`` that gives the channels of queries and keys.
        recurrence: How often the block is applied, each time with the same weights.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``reduction`` leaves no channel for queries and keys, or ``recurrence`` is below 1.

    Source:
        Huang et al., "CCNet: Criss-Cross Attention for Semantic Segmentation", ICCV 2019, arXiv:1811.11721, eq. 1-2.
        Authors' code: github.com/speedinghzl/CCNet @ 1fae6c6, cc_attention/functions.py.
        Deviations: none; gamma joins the value weights. The softmax cancels the bias of the keys, checkpoints hold it.
    """

    def __init__(self, channels: int, *, reduction: int = 8, recurrence: int = 1) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("CrissCrossAttention", 1, channels=channels, reduction=reduction, recurrence=recurrence)
        check_at_most("CrissCrossAttention", "reduction", reduction, "channels", channels)
        self.recurrence = recurrence
        self.query = nn.Linear(channels, channels // reduction)
        self.key = nn.Linear(channels, channels // reduction)
        self.value = nn.Linear(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does; the block starts as the identity."""
        reset_layers(self)
        nn.init.zeros_(self.gamma)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` plus what each pixel gathers from its row and column."""
        check_input("CrissCrossAttention", x_nchw, self.channels)
        for _ in range(self.recurrence):
            x_nchw = self._gather(x_nchw)[0]
        return x_nchw

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``criss_cross``: for each recurrence and pixel the weights of its column, then of its row."""
        check_input("CrissCrossAttention", x_nchw, self.channels)
        maps = []
        for _ in range(self.recurrence):
            x_nchw, weight_nhwk = self._gather(x_nchw)
            maps.append(weight_nhwk)
        return {"criss_cross": torch.stack(maps, dim=1)}

    def _gather(self, x_nchw: Tensor) -> tuple[Tensor, Tensor]:
        samples, _, height, width = x_nchw.shape
        hidden = self.query.out_features
        value = Affine(*(part * self.gamma for part in affine(self.value).filled()))
        weight, bias = join(affine(self.query), affine(self.key), value)
        rows_nhwo = torch.unflatten(project(x_nchw, weight, bias), 1, (height, width))
        row_query, row_key, row_value = _pieces(rows_nhwo.flatten(0, 1), hidden)
        column_query, column_key, column_value = _pieces(rows_nhwo.transpose(1, 2).flatten(0, 1), hidden)
        row_nhww = torch.unflatten(torch.bmm(row_query, row_key.transpose(1, 2)), 0, (samples, height))
        itself_hh = torch.eye(height, dtype=torch.bool, device=x_nchw.device)
        column_mhh = torch.bmm(column_query, column_key.transpose(1, 2)).masked_fill(itself_hh, float("-inf"))
        column_nhwh = torch.unflatten(column_mhh, 0, (samples, width)).transpose(1, 2)
        weight_nhwk = torch.softmax(torch.cat([column_nhwh, row_nhww], dim=3), dim=3)
        row_weight_mww = weight_nhwk[..., height:].flatten(0, 1)
        from_row_nhwc = torch.unflatten(torch.bmm(row_weight_mww, row_value), 0, (samples, height))
        column_weight_mhh = weight_nhwk[..., :height].transpose(1, 2).flatten(0, 1)
        from_column_nwhc = torch.unflatten(torch.bmm(column_weight_mhh, column_value), 0, (samples, width))
        y_nhwc = from_row_nhwc + from_column_nwhc.transpose(1, 2)
        return x_nchw + y_nhwc.permute(0, 3, 1, 2), weight_nhwk


def _pieces(mixed_mlo: Tensor, hidden: int) -> tuple[Tensor, Tensor, Tensor]:
    return mixed_mlo[..., :hidden], mixed_mlo[..., hidden : 2 * hidden], mixed_mlo[..., 2 * hidden :]
