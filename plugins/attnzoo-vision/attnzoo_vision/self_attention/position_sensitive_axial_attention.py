"""Position-sensitive axial attention of Axial-DeepLab."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_divides, check_input
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.joined_norm import is_joinable, scale_and_shift
from attnzoo_vision.ops.layout import is_channels_last, to_channels_last
from attnzoo_vision.ops.relative import relative_rows
from attnzoo_vision.ops.window_pooling import avg_pool2d

Axis = Literal["height", "width"]


class PositionSensitiveAxialAttention(nn.Module):
    """Attend along one axis, with relative places in the logits of queries and of keys and in the values.

    ``y_i = norm(sum_j a_ij v_j) + norm(sum_j a_ij R_v[i - j])``,
    ``a_i = softmax_j(norm(q_i.k_j) + norm(q_i.R_q[i - j]) + norm(k_j.R_k[j - i]))``, ``q, k, v = norm(W x)``; every
    ``norm`` is a batch norm, over heads in the logits, so no scale is needed.

    Args:
        channels: Channels of the input.
        out_channels: Channels of the output and of all values; ``channels`` if left out. Queries and keys have half.
        num_heads: Heads.
        kernel_size: Length of the axis that the tables are made for.
        axis: The axis that is attended along: ``height`` or ``width``.
        stride: Average pooling of the output, on both axes.

    Shape:
        ``(N, C, H, W)`` to ``(N, out_channels, H // stride, W // stride)``; the axis at most ``kernel_size`` long (a
        shorter one uses the middle of the tables).

    Raises:
        ValueError: ``num_heads`` does not divide the channels into heads of even width, ``axis`` is unknown, or the
            axis is longer than ``kernel_size``.

    Source:
        Wang et al., "Axial-DeepLab: Stand-Alone Axial-Attention for Panoptic Segmentation", ECCV 2020,
        arXiv:2003.07853, eq. 4. Authors' code: github.com/csrhddlam/axial-deeplab @ 79088ed, lib/models/axialnet.py,
        class AxialAttention. Deviations: the index of the table is not stored; in evaluation the norms of the logits
        are folded into queries and keys.
    """

    def __init__(
        self,
        channels: int,
        *,
        out_channels: int | None = None,
        num_heads: int = 8,
        kernel_size: int = 56,
        axis: Axis = "height",
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.channels = channels
        name = "PositionSensitiveAxialAttention"
        check_at_least(
            name, 1, channels=channels, out_channels=out_channels, num_heads=num_heads, kernel_size=kernel_size
        )
        check_at_least(name, 1, stride=stride)
        check_choice(name, "axis", axis, ("height", "width"))
        out = channels if out_channels is None else out_channels
        check_divides(name, "num_heads", num_heads, "channels", channels)
        check_divides(name, "num_heads", num_heads, "out_channels", out, factor=2)
        self.num_heads, self.kernel_size, self.stride = num_heads, kernel_size, stride
        self.along_height = axis == "height"
        self.value_dim = out // num_heads
        self.qkv = nn.Conv2d(channels, 2 * out, 1, bias=False)
        self.qkv_norm = BatchNorm2d(2 * out)
        self.logit_norm = BatchNorm2d(3 * num_heads)
        self.out_norm = BatchNorm2d(2 * out)
        self.relative = nn.Parameter(torch.empty(2 * self.value_dim, 2 * kernel_size - 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projection by its fan-in and the tables by the width of a head."""
        nn.init.normal_(self.qkv.weight, std=self.qkv.in_channels**-0.5)
        nn.init.normal_(self.relative, std=self.value_dim**-0.5)
        for norm in (self.qkv_norm, self.logit_norm, self.out_norm):
            norm.reset_parameters()

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the attended map, average pooled by ``stride``."""
        query, key, value = self._heads(x_nchw)
        tables = self._tables(query.shape[3])
        weight_nmgij = self._weights(query, key, tables)
        content_nmgid = torch.matmul(weight_nmgij, value)
        place_nmgid = torch.einsum("nmgij,ijd->nmgid", weight_nmgij, tables[2])
        # the two sums lie side by side in the channels of the norm: content 0, place 0, content 1, ...
        both_ncml = torch.stack([content_nmgid, place_nmgid], dim=5).permute(0, 2, 4, 5, 1, 3).flatten(1, 3)
        y_ncml = self.out_norm(both_ncml).unflatten(1, (-1, 2)).sum(dim=2)
        y_nchw = y_ncml.transpose(2, 3) if self.along_height else y_ncml
        if is_channels_last(x_nchw):
            y_nchw = to_channels_last(y_nchw)
        return avg_pool2d(y_nchw, self.stride) if self.stride > 1 else y_nchw

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``axis``: for each line along the axis and head, the weight of every key for every query."""
        query, key, _ = self._heads(x_nchw)
        return {"axis": self._weights(query, key, self._tables(query.shape[3]))}

    def _heads(self, x_nchw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, ``(N, lines, heads, length, width)``."""
        check_input("PositionSensitiveAxialAttention", x_nchw, self.channels)
        length = x_nchw.shape[2 if self.along_height else 3]
        if length > self.kernel_size:
            message = f"PositionSensitiveAxialAttention: axis of {length} is longer than kernel_size={self.kernel_size}"
            message += f"; build it with {length} or more"
            raise ValueError(message)
        y_nohw = self.qkv_norm(convolve(self.qkv, x_nchw))
        y_noml = y_nohw.transpose(2, 3) if self.along_height else y_nohw
        y_nmglo = y_noml.unflatten(1, (self.num_heads, -1)).permute(0, 3, 1, 4, 2)
        half = self.value_dim // 2
        query, key, value = y_nmglo.split([half, half, self.value_dim], dim=4)
        return query, key, value

    def _tables(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows of the tables for every query and key, ``(length, length, width)``."""
        half = self.value_dim // 2
        query_rd, key_rd, value_rd = self.relative.t().split([half, half, self.value_dim], dim=1)
        return (
            relative_rows(query_rd.flip(0), length, length),
            relative_rows(key_rd, length, length),
            relative_rows(value_rd.flip(0), length, length),
        )

    def _weights(self, query: Tensor, key: Tensor, tables: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        query_table_ijd, key_table_ijd, _ = tables
        norm = self.logit_norm
        if not is_joinable(norm):
            content = torch.matmul(query, key.transpose(3, 4))
            by_query = torch.einsum("nmgid,ijd->nmgij", query, query_table_ijd)
            by_key = torch.einsum("nmgjd,ijd->nmgij", key, key_table_ijd)
            stacked = norm(torch.cat([content, by_query, by_key], dim=2).flatten(0, 1))
            y: Tensor = torch.softmax(stacked.unflatten(1, (3, -1)).sum(dim=1), dim=3).unflatten(0, content.shape[:2])
            return y
        scale_o, shift_o = scale_and_shift(norm)
        shift_g11 = shift_o.view(3, -1).sum(dim=0)[:, None, None]
        scale_3g11 = scale_o.view(3, -1, 1, 1)
        logits = torch.matmul(query * scale_3g11[0], key.transpose(3, 4)) + shift_g11
        logits = logits + torch.einsum("nmgid,ijd->nmgij", query * scale_3g11[1], query_table_ijd)
        logits = logits + torch.einsum("nmgjd,ijd->nmgij", key * scale_3g11[2], key_table_ijd)
        return torch.softmax(logits, dim=4)
