"""Blocked local self-attention of HaloNet."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import affine, join, reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_divides, check_input
from attnzoo_vision.ops.heads import merge_heads
from attnzoo_vision.ops.layout import is_channels_last
from attnzoo_vision.ops.relative import attend_relative, axis_logits, relative_map
from attnzoo_vision.ops.tokens import project
from attnzoo_vision.ops.window_pooling import avg_pool2d


class HaloAttention(nn.Module):
    """Attend from the positions of a block of the map to the block and a halo around it.

    ``y_i = sum_j softmax_j(s q_i.k_j + p q_i.(R_h[row j - row i] + R_w[column j - column i])) v_j`` over the window
    of ``block_size + 2 halo_size`` rows and columns; ``s = d^-1/2``, ``p = s`` (``scale_position``) or 1.

    Args:
        channels: Channels of the input.
        out_channels: Channels of the output, the width of all values; ``channels`` if left out.
        num_heads: Heads; they share the position tables.
        head_dim: Width of a query and key; ``out_channels // num_heads`` if left out.
        block_size: Rows and columns of a block.
        halo_size: Rows and columns on each side of it that its queries also see.
        stride: 2 keeps every second query of a block, or averages 2x2 of the output (``average`` or an odd block).
        average: With ``stride`` 2, average the output.
        bias: Give queries, keys and values a bias.
        scale_position: Scale the position logits as the content logits are.
        mask_padding: Give positions outside the map no weight; without it they are keys and values of zero.
        projection: Project the output, ``nn.Linear`` with bias; the values then have ``num_heads * head_dim`` channels.

    Shape:
        ``(N, C, H, W)`` to ``(N, out_channels, H / stride, W / stride)``; ``block_size`` divides H and W.

    Raises:
        ValueError: ``num_heads`` does not divide ``out_channels``, ``stride`` is unknown, or ``block_size`` does not
            divide the map.

    Source:
        Vaswani et al., "Scaling Local Self-Attention for Parameter Efficient Visual Backbones", CVPR 2021,
        arXiv:2103.12731, sec. 2.2. The authors published no code; timm 1.0.31, halo_attn.py, whose weights are the
        ones in use. Deviations: ``nn.Linear`` for 1x1 convolutions. The table of timm has unused outer rows; they stay.
    """

    def __init__(
        self,
        channels: int,
        *,
        out_channels: int | None = None,
        num_heads: int = 8,
        head_dim: int | None = None,
        block_size: int = 8,
        halo_size: int = 3,
        stride: int = 1,
        average: bool = False,
        bias: bool = False,
        scale_position: bool = False,
        mask_padding: bool = False,
        projection: bool = False,
    ) -> None:
        super().__init__()
        check_at_least("HaloAttention", 1, channels=channels, num_heads=num_heads, head_dim=head_dim)
        check_at_least("HaloAttention", 1, out_channels=out_channels, block_size=block_size)
        check_at_least("HaloAttention", 0, halo_size=halo_size)
        check_choice("HaloAttention", "stride", stride, (1, 2))
        out = channels if out_channels is None else out_channels
        if head_dim is None or not projection:
            check_divides("HaloAttention", "num_heads", num_heads, "out_channels", out)
        self.channels, self.num_heads = channels, num_heads
        self.head_dim = out // num_heads if head_dim is None else head_dim
        self.value_dim = self.head_dim if projection else out // num_heads
        self.block_size, self.halo_size = block_size, halo_size
        self.window_size = block_size + 2 * halo_size
        self.average = stride == 2 and (average or block_size % 2 == 1)
        self.query_step = 2 if stride == 2 and not self.average else 1
        self.scale = self.head_dim**-0.5
        self.position_scale = self.scale if scale_position else 1.0
        self.mask_padding = mask_padding
        self.query = nn.Linear(channels, num_heads * self.head_dim, bias=bias)
        self.key_value = nn.Linear(channels, num_heads * (self.head_dim + self.value_dim), bias=bias)
        self.height = nn.Parameter(torch.empty(2 * self.window_size - 1, self.head_dim))
        self.width = nn.Parameter(torch.empty(2 * self.window_size - 1, self.head_dim))
        self.projection = nn.Linear(num_heads * self.head_dim, out) if projection else None
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Draw the tables with the size of a scaled query, the projections by their fan-in, as timm does."""
        for layer in (self.query, self.key_value):
            nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        nn.init.trunc_normal_(self.height, std=self.scale)
        nn.init.trunc_normal_(self.width, std=self.scale)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the attended map."""
        query, key, value, row, column = self._blocks(x_nchw)
        if self.head_dim <= 16:
            y_bgqe = attend_relative(query, key, value, row, column, self.scale)
        else:  # wide heads: the small maps cost less than the further features
            y_bgqe = torch.matmul(relative_map(query, key, row, column, self.scale), value)
        y_nhwo = self._unblock(y_bgqe, x_nchw)
        if self.projection is not None:
            y_nhwo = self.projection(y_nhwo)
        y_nohw = y_nhwo.permute(0, 3, 1, 2)
        if not is_channels_last(x_nchw):
            y_nohw = y_nohw.contiguous()
        return avg_pool2d(y_nohw, 2) if self.average else y_nohw

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``window``: for each block and head, the weight of every window position for every query."""
        query, key, _, row, column = self._blocks(x_nchw)
        weight_bgqk = relative_map(query, key, row, column, self.scale)
        return {"window": weight_bgqk.unflatten(0, (x_nchw.shape[0], math.prod(self._grid(x_nchw))))}

    def _blocks(self, x_nchw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return queries, keys, values and row and column logits, all blocks of all samples along the first axis."""
        check_input("HaloAttention", x_nchw, self.channels)
        height, width = x_nchw.shape[2:]
        size, window, halo = self.block_size, self.window_size, self.halo_size
        if height % size or width % size:
            message = f"HaloAttention: block_size={size} does not divide the map of {height}x{width}; pad it"
            raise ValueError(message)
        weight, bias = join(affine(self.query), affine(self.key_value))
        y_nhwo = project(x_nchw, weight, bias).unflatten(1, (height, width))
        query_nhwo, pair_nhwo = y_nhwo.split([self.query.out_features, self.key_value.out_features], dim=3)
        query_nhwo = query_nhwo[:, :: self.query_step, :: self.query_step]
        size = size // self.query_step
        query_nyixjo = query_nhwo.unflatten(2, (-1, size)).unflatten(1, (-1, size))
        query = query_nyixjo.unflatten(5, (self.num_heads, -1)).permute(0, 1, 3, 5, 2, 4, 6).flatten(0, 2)
        pair_nyxoij = F.pad(pair_nhwo, (0, 0, halo, halo, halo, halo)).unfold(1, window, self.block_size)
        pair_nyxoij = pair_nyxoij.unfold(2, window, self.block_size)
        pair = pair_nyxoij.unflatten(3, (self.num_heads, -1)).permute(0, 1, 2, 3, 5, 6, 4).flatten(4, 5).flatten(0, 2)
        key, value = pair.split([self.head_dim, self.value_dim], dim=3)
        row, column = axis_logits(query * self.position_scale, self.height, self.width, window, window)
        if self.mask_padding:
            row, column = self._mask(row, column, *self._grid(x_nchw))
        return query.flatten(2, 3), key, value, row.flatten(2, 3), column.flatten(2, 3)

    def _mask(self, row: Tensor, column: Tensor, blocks_high: int, blocks_wide: int) -> tuple[Tensor, Tensor]:
        """Lower the logits of rows and columns outside the map so far that their weight is exactly zero."""
        lowest, samples = torch.finfo(row.dtype).min / 4, row.shape[0] // (blocks_high * blocks_wide)
        high_bk = self._outside(blocks_high, row.device)[:, None, None, None, None]
        wide_bk = self._outside(blocks_wide, row.device)[:, None, None, None]
        row = row.unflatten(0, (samples, blocks_high, blocks_wide)).masked_fill(high_bk, lowest).flatten(0, 2)
        return row, column.unflatten(0, (samples, blocks_high, blocks_wide)).masked_fill(wide_bk, lowest).flatten(0, 2)

    def _outside(self, blocks: int, device: torch.device) -> Tensor:
        """Return which positions of each block's window lie outside the map, on one axis."""
        position_k = torch.arange(self.window_size, device=device) - self.halo_size
        place_bk = torch.arange(blocks, device=device)[:, None] * self.block_size + position_k
        return (place_bk < 0) | (place_bk >= blocks * self.block_size)

    def _unblock(self, y_bgqe: Tensor, x_nchw: Tensor) -> Tensor:
        """Put the blocks back in their places, ``(N, H / step, W / step, heads * E)``."""
        size = self.block_size // self.query_step
        y_bijo = merge_heads(y_bgqe).unflatten(1, (size, size))
        y_nyxijo = y_bijo.unflatten(0, (x_nchw.shape[0], *self._grid(x_nchw)))
        y_nhwo: Tensor = y_nyxijo.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return y_nhwo

    def _grid(self, x_nchw: Tensor) -> tuple[int, int]:
        """Return how many blocks the map has, high and wide."""
        return x_nchw.shape[2] // self.block_size, x_nchw.shape[3] // self.block_size
