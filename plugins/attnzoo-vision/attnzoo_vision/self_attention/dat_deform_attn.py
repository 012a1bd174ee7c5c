"""Deformable attention of DAT and DAT++: all queries attend to one set of deformed sampling points."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.affine_grid import sample_rows
from attnzoo_vision.ops.bilinear import gains_by_rows
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_divides, check_input, check_probability
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.deformable import even_grid
from attnzoo_vision.ops.grid_sample import grid_sample
from attnzoo_vision.ops.heads import attend_heads, attention_map, merge_heads, split_heads
from attnzoo_vision.ops.rectify import rectify
from attnzoo_vision.ops.sizes import pair
from attnzoo_vision.ops.tokens import project, project_back, tokens_to_map
from attnzoo_vision.ops.window_pooling import avg_pool2d

Position = Literal["table", "fixed", "depthwise", "log", "none"]
Form = Literal["dat", "dat++"]


class DATDeformAttn(nn.Module):
    """Attend from every position to a coarse grid of points that the map itself has moved.

    ``y = W_o softmax(q k^T / sqrt(d) + bias(place_q - place_k)) v``; keys and values are projections of ``x`` sampled
    bilinearly at ``grid + offset(q)``, with offsets for each group of heads.

    Args:
        channels: Channels of input and output.
        feature_size: Height and width of the map; one number for both.
        num_heads: Heads.
        groups: Groups of heads that share the points.
        stride: Step of the grid of points.
        kernel_size: Kernel of the convolution that gives the offsets.
        offset_range: Offsets are at most this many cells of the grid. Negative: any offset, the place is kept on the
            map. 0 in form ``dat``: any offset, the place is left as it is.
        position: Logits of relative places: ``table`` (interpolated), ``log`` (an MLP of logarithmic displacements),
            ``fixed`` (one number for each pair), ``none``, or ``depthwise`` (a convolution of q added to the output).
        deform: Without, the keys are the average pooled map, and there is no ``position``.
        form: ``dat`` (grid within the map, tanh keeps places on it) or ``dat++`` (grid scaled by size - 1, clamp).
        attention_dropout: Probability of dropping an attention weight.
        dropout: Probability of dropping an element of the output.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; H and W are ``feature_size``.

    Raises:
        ValueError: ``num_heads`` does not divide ``channels``, ``groups`` not ``num_heads``, a choice is unknown, a
            probability is out of its range, the points are more or fewer than a ``fixed`` position of ``dat++`` has
            (one for each ``stride`` pixels, rounded down), or the map is not of ``feature_size``.

    Source:
        Xia et al., "Vision Transformer with Deformable Attention", CVPR 2022, arXiv:2201.00520, eq. 5-8, and "DAT++",
        arXiv:2309.01430. Authors' code: github.com/LeapLabTHU/DAT @ 42b489e (dat) and @ 32173fc (dat++),
        models/dat_blocks.py, class DAttentionBaseline.
        Deviations: on an axis with one point, dat++ divides by 1, where theirs divides by zero.
    """

    def __init__(
        self,
        channels: int,
        feature_size: int | list[int],
        *,
        num_heads: int = 4,
        groups: int = 1,
        stride: int = 1,
        kernel_size: int = 5,
        offset_range: float = -1.0,
        position: Position = "table",
        deform: bool = True,
        form: Form = "dat++",
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels = channels
        name = "DATDeformAttn"
        check_at_least(name, 1, channels=channels, feature_size=feature_size, num_heads=num_heads, groups=groups)
        check_at_least(name, 1, stride=stride, kernel_size=kernel_size)
        check_divides(name, "num_heads", num_heads, "channels", channels)
        check_divides(name, "groups", groups, "num_heads", num_heads)
        check_choice(name, "position", position, ("table", "fixed", "depthwise", "log", "none"))
        check_choice(name, "form", form, ("dat", "dat++"))
        check_probability(name, attention_dropout=attention_dropout, dropout=dropout)
        self.num_heads, self.groups, self.stride = num_heads, groups, stride
        self.feature_size = pair(name, "feature_size", feature_size)
        self.offset_range, self.deform, self.centred = offset_range, deform, form == "dat"
        self.scale = (channels // num_heads) ** -0.5
        self.attention_dropout = attention_dropout
        self._make_offsets(channels // groups, kernel_size)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.projection = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self._make_position(position if deform else "none", channels)
        self._draw_table()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._draw_table()

    def _draw_table(self) -> None:
        if self.position in ("table", "fixed"):
            nn.init.trunc_normal_(self.table, std=0.01)

    def _make_offsets(self, width: int, kernel_size: int) -> None:
        padding = 0 if kernel_size == self.stride and not self.centred else kernel_size // 2
        self.grid = tuple((size + 2 * padding - kernel_size) // self.stride + 1 for size in self.feature_size)
        if self.deform:
            check_at_least("DATDeformAttn", 1, feature_size=self.grid)
            self.offset_conv = nn.Conv2d(width, width, kernel_size, self.stride, padding, groups=width)
            self.offset_norm = nn.LayerNorm(width)
            self.offset = nn.Linear(width, 2, bias=False)

    def _make_position(self, position: Position, channels: int) -> None:
        self.position = position
        height, width = self.feature_size
        if self.position == "table":
            self.table = nn.Parameter(torch.empty(self.num_heads, 2 * height - 1, 2 * width - 1))
        elif self.position == "fixed":
            found = math.prod(self.grid)
            points = (height // self.stride) * (width // self.stride) if not self.centred else found
            if points != found:
                message = f"DATDeformAttn: position='fixed' has a table of {points} points, found {found}; "
                message += "use an odd kernel_size and a feature_size that stride divides"
                raise ValueError(message)
            self.table = nn.Parameter(torch.empty(self.num_heads, height * width, points))
        elif self.position == "depthwise":
            self.local = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        elif self.position == "log":
            self.expand = nn.Linear(2, 32)
            self.contract = nn.Linear(32, self.num_heads // self.groups, bias=False)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the attended map."""
        query_nchw, query, key, value, bias, _, _ = self._parts(x_nchw)
        dropout = self.attention_dropout if self.training else 0.0
        y_ngld = attend_heads(query, key, value, scale=self.scale, bias=bias, dropout=dropout)
        if self.position == "depthwise":
            y_ngld = y_ngld + split_heads(convolve(self.local, query_nchw).flatten(2).transpose(1, 2), self.num_heads)
        y_nchw: Tensor = self.dropout(project_back(merge_heads(y_ngld), *affine(self.projection), x_nchw))
        return y_nchw

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``weight`` of every point for every position and head; the points: ``place``, ``grid``, as (y, x)."""
        _, query, key, _, bias, place_bhw2, grid_hw2 = self._parts(x_nchw)
        place = place_bhw2.unflatten(0, (x_nchw.shape[0], self.groups))
        weight = attention_map(query, key, scale=self.scale, bias=bias)
        return {"weight": weight, "place": place, "grid": grid_hw2.expand_as(place)}

    def _parts(self, x_nchw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor, Tensor]:
        check_input("DATDeformAttn", x_nchw, self.channels)
        if tuple(x_nchw.shape[2:]) != self.feature_size:
            found, expected = list(x_nchw.shape[2:]), list(self.feature_size)
            message = f"DATDeformAttn: map of {found}, expected feature_size={expected}; resize it, or build with it"
            raise ValueError(message)
        # as tokens, the features lie side by side, which the fused kernels ask for
        weight_cc11, bias_c = affine(self.query, same=True)
        query_nlc = project(x_nchw, weight_cc11.flatten(1), bias_c)
        query_nchw = tokens_to_map(query_nlc, x_nchw)
        if self.deform:
            place_bhw2, grid_hw2 = self._points(query_nchw)
            x_bdhw = x_nchw.unflatten(1, (self.groups, -1)).flatten(0, 1)
            sampled_bdhw = _sampled(x_bdhw, place_bhw2)
            sampled_nchw = sampled_bdhw.unflatten(0, (-1, self.groups)).flatten(1, 2)
        else:
            sampled_nchw = avg_pool2d(x_nchw, self.stride)
            grid_hw2 = self._grid(*sampled_nchw.shape[2:], like=x_nchw)
            kept_hw2 = grid_hw2 if self.offset_range >= 0 else grid_hw2.clamp(-1.0, 1.0)
            place_bhw2 = kept_hw2.expand(x_nchw.shape[0] * self.groups, -1, -1, -1)
        query = split_heads(query_nlc, self.num_heads)
        pair_nmo = (project(sampled_nchw, *affine(layer)) for layer in (self.key, self.value))
        key, value = (split_heads(tokens_nmc, self.num_heads) for tokens_nmc in pair_nmo)
        return query_nchw, query, key, value, self._bias(place_bhw2, x_nchw), place_bhw2, grid_hw2

    def _points(self, query_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the places, for each sample and group, and the regular grid, both (y, x) in -1..1."""
        hidden_bdhw = convolve(self.offset_conv, query_nchw.unflatten(1, (self.groups, -1)).flatten(0, 1))
        offset_bhw2 = self.offset(F.gelu(self.offset_norm(hidden_bdhw.permute(0, 2, 3, 1))))
        rows, columns = hidden_bdhw.shape[2:]
        grid_hw2 = self._grid(rows, columns, like=query_nchw)
        if self.offset_range > 0 or (self.offset_range == 0 and not self.centred):
            cells = offset_bhw2.new_tensor(
                [self.offset_range / self._span(rows), self.offset_range / self._span(columns)]
            )
            return torch.tanh(offset_bhw2) * cells + grid_hw2, grid_hw2
        place_bhw2 = offset_bhw2 + grid_hw2
        if self.offset_range < 0:
            place_bhw2 = torch.tanh(place_bhw2) if self.centred else place_bhw2.clamp(-1.0, 1.0)
        return place_bhw2, grid_hw2

    def _span(self, size: int) -> int:
        return size if self.centred else max(size - 1, 1)

    def _grid(self, rows: int, columns: int, *, like: Tensor, shift: float = 0.5) -> Tensor:
        """Return the regular grid ``(rows, columns, 2)``, (y, x); a whole span of the map is 2."""
        return even_grid((rows, columns), (self._span(rows), self._span(columns)), shift, like)

    def _bias(self, place_bhw2: Tensor, x_nchw: Tensor) -> Tensor | None:
        """Return the logits of the places, ``(N, heads, L, points)``."""
        if self.position in ("none", "depthwise", "fixed"):
            return self.table.unsqueeze(0).to(x_nchw.dtype) if self.position == "fixed" else None
        query_l12 = self._grid(*x_nchw.shape[2:], like=place_bhw2, shift=0.5 if self.centred else 0.0).flatten(0, 1)[
            :, None
        ]
        step_blm2, samples = query_l12 - place_bhw2.flatten(1, 2).unsqueeze(1), x_nchw.shape[0]
        if self.position == "log":
            step_blm2 = 4.0 * step_blm2
            step_blm2 = torch.sign(step_blm2) * torch.log2(step_blm2.abs() + 1.0) / 3.0
            y: Tensor = (
                self.contract(rectify(self.expand(step_blm2)))
                .permute(0, 3, 1, 2)
                .unflatten(0, (samples, self.groups))
                .flatten(1, 2)
            )
            return y
        table_bghw = self.table.unflatten(0, (self.groups, -1)).repeat(samples, 1, 1, 1).to(step_blm2.dtype)
        bias_bglm = grid_sample(table_bghw, 0.5 * step_blm2.flip(3), align_corners=True)
        y = bias_bglm.unflatten(0, (samples, self.groups)).flatten(1, 2).to(x_nchw.dtype)
        return y


def _sampled(x_bdhw: Tensor, place_bhw2: Tensor) -> Tensor:
    """Return the values at the places, channels-last if that is quicker: tokens are made of them."""
    grid_bhw2 = place_bhw2.flip(3).to(x_bdhw.dtype)
    if gains_by_rows(x_bdhw, x_bdhw.shape[1]):
        return sample_rows(x_bdhw, grid_bhw2, align_corners=True)
    return grid_sample(x_bdhw, grid_bhw2, align_corners=True)
