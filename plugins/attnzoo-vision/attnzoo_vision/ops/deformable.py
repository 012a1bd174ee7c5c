"""Bilinear sampling of several maps at learned places, weighted and summed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attnzoo_vision.ops.bilinear import corners, gains_by_rows, sum_rows
from attnzoo_vision.ops.compiling import compiled_for_cpu, runs_plainly, settled
from attnzoo_vision.ops.grid_sample import grid_sample

Sizes = Sequence[Sequence[int]]
_IN_ORDER = torch.contiguous_format


def level_sizes(block: str, level_shapes: Tensor | Sizes | None, positions: int) -> list[tuple[int, int]]:
    """Return the height and width of each level as numbers.

    Raises:
        ValueError: There are none, or they do not sum to the ``positions`` of the values.
    """
    if level_shapes is None:
        message = f"{block}: no level_shapes; give them to the constructor or the call"
        raise ValueError(message)
    rows = level_shapes.tolist() if isinstance(level_shapes, Tensor) else level_shapes
    sizes = [(int(height), int(width)) for height, width in rows]
    total = sum(height * width for height, width in sizes)
    if total != positions:
        message = f"{block}: level_shapes={sizes} have {total} positions, value {positions}; give the sizes of its maps"
        raise ValueError(message)
    return sizes


def sample_levels(value_nsgd: Tensor, sizes: Sizes, place_nlgvp2: Tensor, weight_nlgvp: Tensor) -> Tensor:
    """Return ``(N, L, G * D)``: for each query and head, the weighted sum of the values at its places on all levels.

    ``value_nsgd`` holds the maps one after the other, row by row; a place is (x, y) with 0 and 1 at the borders of the
    map, and what lies outside is zero.
    """
    if gains_by_rows(value_nsgd, value_nsgd.shape[3]):
        return _sum_of_rows(value_nsgd, sizes, place_nlgvp2, weight_nlgvp)
    samples, _, heads = weight_nlgvp.shape[:3]
    maps = value_nsgd.permute(0, 2, 3, 1).split([height * width for height, width in sizes], dim=3)
    # queries side by side, which the sums over the few places of each can be taken along
    grids = _grids(place_nlgvp2).to(value_nsgd.dtype).unbind(2)
    weights = settled(weight_nlgvp.permute(0, 2, 3, 4, 1)).unbind(2)
    total: Tensor | None = None
    for size, map_ngds, grid_ngpl2, weight_ngpl in zip(sizes, maps, grids, weights, strict=True):
        map_bdhw = map_ngds.unflatten(3, size).flatten(0, 1)
        sampled_bdpl = grid_sample(map_bdhw, grid_ngpl2.flatten(0, 1), align_corners=False)
        summed_bdl = (sampled_bdpl * weight_ngpl.flatten(0, 1).unsqueeze(1)).sum(dim=2)
        total = summed_bdl if total is None else total + summed_bdl
    assert total is not None
    y_nlc: Tensor = total.unflatten(0, (samples, heads)).flatten(1, 2).transpose(1, 2)
    return y_nlc


def _grids(place_nlgvp2: Tensor) -> Tensor:
    """Return the places ``(N, G, V, P, L, 2)``, -1 and 1 at the borders."""
    turn = _turn_operator if compiled_for_cpu(place_nlgvp2) else _turn
    turned = turn(place_nlgvp2, [0, 2, 3, 4, 1])
    return torch.add(turned.new_full((), -1.0), turned, alpha=2)  # in one pass


def _turn(pairs: Tensor, order: list[int]) -> Tensor:
    """Return a copy in order of memory, all axes but the last in another order."""
    pairs = pairs.contiguous()
    if runs_plainly() and _are_complex(pairs):  # pairs are copied more quickly than numbers
        return torch.view_as_real(torch.view_as_complex(pairs).permute(order).clone(memory_format=_IN_ORDER))
    return pairs.permute(*order, len(order)).clone(memory_format=_IN_ORDER)


def _are_complex(pairs: Tensor) -> bool:
    """Say whether torch can view these pairs of numbers as complex ones."""
    return pairs.dtype in (torch.float32, torch.float64) and pairs.storage_offset() % 2 == 0


_turn_operator = torch.library.custom_op("attnzoo_vision::turn_pairs", _turn, mutates_args=())


@_turn_operator.register_fake
def _turned_like(pairs: Tensor, order: list[int]) -> Tensor:
    return pairs.new_empty([*(pairs.shape[axis] for axis in order), pairs.shape[-1]])


def _save(ctx: Any, inputs: tuple[Tensor, list[int]], output: Tensor) -> None:
    ctx.order = inputs[1]


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return _turn_operator(grad, [ctx.order.index(axis) for axis in range(len(ctx.order))]), None


_turn_operator.register_autograd(_gradient, setup_context=_save)


def _sum_of_rows(value_nsgd: Tensor, sizes: Sizes, place_nlgvp2: Tensor, weight_nlgvp: Tensor) -> Tensor:
    """Return the same in one sum: a bag of rows, four around each place, for every query and head."""
    samples, positions, heads = value_nsgd.shape[:3]
    indices, weights, first = [], [], 0
    for level, (height, width) in enumerate(sizes):
        x_nlgp, y_nlgp = place_nlgvp2[:, :, :, level].to(value_nsgd.dtype).unbind(-1)
        index_nlgpk, share_nlgpk = corners(x_nlgp * width - 0.5, y_nlgp * height - 0.5, height, width)
        indices.append((index_nlgpk + first).flatten(-2))
        weights.append((share_nlgpk * weight_nlgvp[:, :, :, level, :, None].to(value_nsgd.dtype)).flatten(-2))
        first += height * width
    sample_n = torch.arange(samples, device=value_nsgd.device) * positions
    head_g = torch.arange(heads, device=value_nsgd.device)
    index_nlgk = (torch.cat(indices, dim=-1) + sample_n[:, None, None, None]) * heads + head_g[:, None]
    return sum_rows(value_nsgd.flatten(0, 2), index_nlgk, torch.cat(weights, dim=-1)).flatten(2)


def ring_offsets(heads: int, levels: int, points: int) -> Tensor:
    """Return the initial offsets ``(heads, levels, points, 2)``: a ray for each head, point p at distance p + 1."""
    angle_g = torch.arange(heads, dtype=torch.float32) * (2.0 * torch.pi / heads)
    direction_g2 = torch.stack([angle_g.cos(), angle_g.sin()], dim=1)
    direction_g2 = direction_g2 / direction_g2.abs().amax(dim=1, keepdim=True)
    distance_p = torch.arange(1, points + 1, dtype=torch.float32)
    offset_gp2 = direction_g2[:, None, :] * distance_p[:, None]
    return offset_gp2[:, None].expand(-1, levels, -1, -1).contiguous()


def even_grid(sizes: tuple[int, int], spans: tuple[int, int], shift: float, like: Tensor) -> Tensor:
    """Return the pixels of a grid ``(rows, columns, 2)`` as (y, x), shifted, a span scaled to -1..1."""
    axes = [
        (torch.arange(size, dtype=like.dtype, device=like.device) + shift) / span * 2.0 - 1.0
        for size, span in zip(sizes, spans, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
