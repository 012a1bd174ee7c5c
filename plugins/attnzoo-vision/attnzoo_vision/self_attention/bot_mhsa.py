"""Self-attention of the bottleneck transformer: all positions of a map, with two-dimensional positions."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo.layers import affine
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_divides, check_input
from attnzoo_vision.ops.heads import attend_heads, attention_map, heads_to_map, split_heads
from attnzoo_vision.ops.relative import attend_relative, axis_logits, relative_map
from attnzoo_vision.ops.sizes import pair
from attnzoo_vision.ops.tokens import project
from attnzoo_vision.ops.window_pooling import avg_pool2d

Position = Literal["relative", "absolute"]


class BotMHSA(nn.Module):
    """Attend from every position of a map to every other, by content and by relative (or absolute) place.

    ``y_i = sum_j softmax_j(s q_i.k_j + p q_i.(R_h[row j - row i] + R_w[column j - column i])) v_j``, ``s = d^-1/2``,
    ``p = s`` (``scale_position``) or 1; with absolute positions ``(A_h[row j] + A_w[column j])`` for the two ``R``.
    The map of all pairs is never made: row and column logits are further features of the queries.

    Args:
        channels: Channels of the input.
        feature_size: Height and width that the tables are made for; one number for both.
        out_channels: Channels of the output, the width of all values; ``channels`` if left out.
        num_heads: Heads; they share the position tables.
        head_dim: Width of a query and key; ``out_channels // num_heads`` if left out.
        stride: 2 averages 2x2 positions of the output.
        bias: Give the projection a bias.
        position: ``relative`` as in the paper, or ``absolute`` (its ablation).
        scale_position: Scale the position logits as the content logits are.

    Shape:
        ``(N, C, H, W)`` to ``(N, out_channels, H / stride, W / stride)``; H and W at most ``feature_size``
        (a smaller map uses the middle of the tables).

    Raises:
        ValueError: ``num_heads`` does not divide ``out_channels``, ``stride`` or ``position`` is unknown, or the map is
            larger than ``feature_size``.

    Source:
        Srinivas et al., "Bottleneck Transformers for Visual Recognition", CVPR 2021, arXiv:2101.11605, fig. 4.
        Code: lucidrains/bottleneck-transformer-pytorch @ 440fbdc and timm 1.0.31, bottleneck_attn.py (the authors
        published a gist). Deviations: ``nn.Linear`` for their 1x1 convolution; the numbers are the same.
    """

    def __init__(
        self,
        channels: int,
        feature_size: int | list[int],
        *,
        out_channels: int | None = None,
        num_heads: int = 4,
        head_dim: int | None = None,
        stride: int = 1,
        bias: bool = False,
        position: Position = "relative",
        scale_position: bool = True,
    ) -> None:
        super().__init__()
        self.channels = channels
        name = "BotMHSA"
        check_at_least(name, 1, channels=channels, feature_size=feature_size, out_channels=out_channels)
        check_at_least(name, 1, num_heads=num_heads, head_dim=head_dim)
        out = channels if out_channels is None else out_channels
        check_divides(name, "num_heads", num_heads, "out_channels", out)
        check_choice(name, "stride", stride, (1, 2))
        check_choice(name, "position", position, ("relative", "absolute"))
        self.num_heads = num_heads
        self.head_dim = out // num_heads if head_dim is None else head_dim
        self.feature_size = pair(name, "feature_size", feature_size)
        self.stride = stride
        self.relative = position == "relative"
        self.scale = self.head_dim**-0.5
        self.position_scale = self.scale if scale_position else 1.0
        self.qkv = nn.Linear(channels, 2 * num_heads * self.head_dim + out, bias=bias)
        rows, columns = (2 * size - 1 if self.relative else size for size in self.feature_size)
        self.height = nn.Parameter(torch.empty(rows, self.head_dim))
        self.width = nn.Parameter(torch.empty(columns, self.head_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the tables with the size of a scaled query, the projection by its fan-in, as timm does."""
        nn.init.trunc_normal_(self.qkv.weight, std=self.qkv.in_features**-0.5)
        if self.qkv.bias is not None:
            nn.init.zeros_(self.qkv.bias)
        nn.init.trunc_normal_(self.height, std=self.scale)
        nn.init.trunc_normal_(self.width, std=self.scale)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the attended map, averaged 2x2 if ``stride`` is 2."""
        query_ngld, key_ngld, value_ngle = self._project(x_nchw)
        if self.relative:
            row_nglk, column_nglk = self._place(query_ngld, x_nchw)
            y_ngle = attend_relative(query_ngld, key_ngld, value_ngle, row_nglk, column_nglk, self.scale)
        else:
            y_ngle = attend_heads(query_ngld, self._placed_keys(key_ngld, x_nchw), value_ngle, scale=self.scale)
        y_nchw = heads_to_map(y_ngle, x_nchw)
        return avg_pool2d(y_nchw, 2) if self.stride == 2 else y_nchw

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``pairwise``, the weight of every key (column) for every query (row) in each head."""
        query_ngld, key_ngld, _ = self._project(x_nchw)
        if not self.relative:
            return {"pairwise": attention_map(query_ngld, self._placed_keys(key_ngld, x_nchw), scale=self.scale)}
        row_nglk, column_nglk = self._place(query_ngld, x_nchw)
        return {"pairwise": relative_map(query_ngld, key_ngld, row_nglk, column_nglk, self.scale)}

    def _project(self, x_nchw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        check_input("BotMHSA", x_nchw, self.channels)
        height, width = x_nchw.shape[2:]
        if height > self.feature_size[0] or width > self.feature_size[1]:
            message = f"BotMHSA: map of {height}x{width} is larger than feature_size={list(self.feature_size)}; "
            message += "build it with a larger one"
            raise ValueError(message)
        inner = self.num_heads * self.head_dim
        y_nlo = project(x_nchw, *affine(self.qkv))
        query_nlc, key_nlc, value_nlc = y_nlo.split([inner, inner, y_nlo.shape[2] - 2 * inner], dim=2)
        return (
            split_heads(query_nlc, self.num_heads),
            split_heads(key_nlc, self.num_heads),
            split_heads(value_nlc, self.num_heads),
        )

    def _place(self, query_ngld: Tensor, x_nchw: Tensor) -> tuple[Tensor, Tensor]:
        height, width = x_nchw.shape[2:]
        query_nghwd = (query_ngld * self.position_scale).unflatten(2, (height, width))
        row_nghwk, column_nghwk = axis_logits(query_nghwd, self.height, self.width, height, width)
        return row_nghwk.flatten(2, 3), column_nghwk.flatten(2, 3)

    def _placed_keys(self, key_ngld: Tensor, x_nchw: Tensor) -> Tensor:
        """Return the keys plus their absolute places, so that one product gives both logits."""
        height, width = x_nchw.shape[2:]
        place_hwd = self.height[:height, None] + self.width[None, :width]
        y: Tensor = key_ngld + place_hwd.flatten(0, 1) * (self.position_scale / self.scale)
        return y
