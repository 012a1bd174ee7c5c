"""Plain axial attention: multi-head attention along each axis on its own."""

import math
from typing import Literal

from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.checks import MAP_AXES, check_at_least, check_choice, check_divides, check_input
from attnzoo_vision.ops.heads import attend_heads, attention_map, merge_heads, split_heads
from attnzoo_vision.ops.layout import in_layout_of


class AxialAttention(nn.Module):
    """Attend along each axis of a map on its own; sum the results or chain them.

    ``y = sum_axis attend_axis(x)``, or ``y = attend_2(attend_1(x))``; ``attend`` is multi-head attention with its own
    weights for each axis, without positions.

    Args:
        channels: Channels of the input.
        num_heads: Heads.
        head_dim: Width of a head; ``channels // num_heads`` if left out.
        num_axes: Axes besides batch and channels.
        channel_axis: Place of the channels: 1 for first, -1 for last.
        combine: ``sum`` of the axes, or ``chain``, one after the other.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)`` by default; ``num_axes`` axes, the channels at ``channel_axis``.

    Raises:
        ValueError: ``num_heads`` does not divide ``channels``, ``combine`` or ``channel_axis`` is unknown, or the input
            has another number of axes.

    Source:
        Ho et al., "Axial Attention in Multidimensional Transformers", 2019, arXiv:1912.12180, sec. 3.1.
        Code: github.com/lucidrains/axial-attention @ eff2c10, axial_attention/axial_attention.py, class AxialAttention.
        Deviations: none; one projection gives queries, keys and values.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int = 8,
        head_dim: int | None = None,
        num_axes: int = 2,
        channel_axis: int = 1,
        combine: Literal["sum", "chain"] = "sum",
    ) -> None:
        super().__init__()
        name = "AxialAttention"
        check_at_least(name, 1, channels=channels, num_heads=num_heads, head_dim=head_dim, num_axes=num_axes)
        check_divides(name, "num_heads", num_heads, "channels", channels)
        check_choice(name, "combine", combine, ("sum", "chain"))
        place = channel_axis if channel_axis > 0 else num_axes + 2 + channel_axis
        if not 1 <= place <= num_axes + 1:
            message = f"{name}: channel_axis={channel_axis} is not one of the {num_axes + 1} axes behind the batch; "
            message += f"use 1 to {num_axes + 1}, or count from the end, -1 the last"
            raise ValueError(message)
        inner = num_heads * (channels // num_heads if head_dim is None else head_dim)
        self.num_heads, self.num_axes, self.channel_axis = num_heads, num_axes, place
        self.channels = channels
        places = MAP_AXES.get(num_axes + 2, "NC" + num_axes * "X").replace("C", "")
        self.axes = places[:place] + "C" + places[place:]
        self.chain = combine == "chain"
        self.scale = (inner // num_heads) ** -0.5
        self.qkv = nn.ModuleList(nn.Linear(channels, 3 * inner, bias=False) for _ in range(num_axes))
        self.projection = nn.ModuleList(nn.Linear(inner, channels) for _ in range(num_axes))

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended map."""
        y, _ = self._attend(x, make_maps=False)
        return y

    def attention(self, x: Tensor) -> dict[str, Tensor]:
        """Return ``axis_0``, ``axis_1``, ...: for each line along the axis, the weight of every key for every query."""
        return self._attend(x, make_maps=True)[1]

    def _attend(self, x: Tensor, *, make_maps: bool) -> tuple[Tensor, dict[str, Tensor]]:
        if x.dim() != self.num_axes + 2:
            message = f"AxialAttention: input of {x.dim()} axes, expected {self.num_axes + 2}; "
            message += f"build it with num_axes={x.dim() - 2}"
            raise ValueError(message)
        check_input("AxialAttention", x, self.channels, self.axes)
        source = x.movedim(self.channel_axis, -1)
        total: Tensor | None = None
        maps = {}
        for axis in range(self.num_axes):
            lines = source.movedim(axis + 1, -2)
            query, key, value = self._heads(axis, lines)
            if make_maps:
                weights = attention_map(query, key, scale=self.scale)
                maps[f"axis_{axis}"] = weights.unflatten(0, (x.shape[0], math.prod(lines.shape[1:-2])))
            attended = self.projection[axis](merge_heads(attend_heads(query, key, value, scale=self.scale)))
            attended = attended.unflatten(0, lines.shape[:-2]).movedim(-2, axis + 1)
            if self.chain:
                source = attended
            total = attended if total is None or self.chain else total + attended
        assert total is not None
        y = total.movedim(-1, self.channel_axis)
        is_map = self.channel_axis == 1 and x.dim() == 4
        return in_layout_of(x, y) if is_map else y.contiguous(), maps

    def _heads(self, axis: int, lines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query_mlc, key_mlc, value_mlc = self.qkv[axis](lines).flatten(0, -3).chunk(3, dim=2)
        heads = self.num_heads
        return split_heads(query_mlc, heads), split_heads(key_mlc, heads), split_heads(value_mlc, heads)
