"""Relative positions: tables indexed by the distance of key and query, one axis at a time."""

import torch
from torch import Tensor

from attnzoo_vision.ops.compiling import kept_softmax
from attnzoo_vision.ops.heads import attend_heads
from attnzoo_vision.ops.query_blocks import attend_by_blocks, many_weights


def relative_rows(table_rd: Tensor, queries: int, keys: int) -> Tensor:
    """Return ``(queries, keys, D)``: row ``j - i`` of a table whose middle row is distance 0."""
    key_j = torch.arange(keys, device=table_rd.device)
    query_i = torch.arange(queries, device=table_rd.device)
    return table_rd[key_j[None, :] - query_i[:, None] + table_rd.shape[0] // 2]


def axis_logits(
    query_nghwd: Tensor, height_rd: Tensor, width_rd: Tensor, key_height: int, key_width: int
) -> tuple[Tensor, Tensor]:
    """Return the logits of every query for every key row ``(N, G, H, W, key_height)`` and key column."""
    height, width = query_nghwd.shape[2:4]
    row_nghwk = torch.einsum("nghwd,hkd->nghwk", query_nghwd, relative_rows(height_rd, height, key_height))
    column_nghwk = torch.einsum("nghwd,wkd->nghwk", query_nghwd, relative_rows(width_rd, width, key_width))
    return row_nghwk, column_nghwk


def attend_relative(
    query_ngld: Tensor, key_ngmd: Tensor, value_ngme: Tensor, row_nglk: Tensor, column_nglk: Tensor, scale: float
) -> Tensor:
    """Return attention with logits ``scale * q.k + row + column``, without forming the map.

    Small maps go to the fused kernels: the row and column logits become further features of the query, and the key has
    a one in its own row and column there. Large ones go by blocks of queries, which does not multiply by these ones.
    """
    if many_weights(query_ngld, key_ngmd):
        return attend_by_blocks(query_ngld, key_ngmd, value_ngme, scale, row_nglk, column_nglk)
    rows, columns = row_nglk.shape[-1], column_nglk.shape[-1]
    row_mk = torch.eye(rows, dtype=key_ngmd.dtype, device=key_ngmd.device).repeat_interleave(columns, dim=0)
    column_mk = torch.eye(columns, dtype=key_ngmd.dtype, device=key_ngmd.device).repeat(rows, 1)
    place_ngmk = torch.cat([row_mk, column_mk], dim=1).expand(*key_ngmd.shape[:-1], -1)
    query = torch.cat([query_ngld * scale, row_nglk.to(query_ngld.dtype), column_nglk.to(query_ngld.dtype)], dim=-1)
    return attend_heads(query, torch.cat([key_ngmd, place_ngmk], dim=-1), value_ngme, scale=1.0)


def relative_map(query_ngld: Tensor, key_ngmd: Tensor, row_nglk: Tensor, column_nglk: Tensor, scale: float) -> Tensor:
    """Return the map ``(N, G, L, M)`` that :func:`attend_relative` never makes."""
    logits_nglm = torch.matmul(query_ngld * scale, key_ngmd.transpose(-2, -1))
    place_nglhw = row_nglk.unsqueeze(-1) + column_nglk.unsqueeze(-2)
    placed_nglhw = logits_nglm.unflatten(-1, place_nglhw.shape[-2:]) + place_nglhw
    return kept_softmax(placed_nglhw.flatten(-2), dim=-1)


def window_bias(table_hwg: Tensor, height: int, width: int) -> Tensor:
    """Return ``(G, L, L)`` with ``L = height * width``: entry ``query - key`` of a table of all displacements.

    ``table_hwg`` is ``(2 * height - 1, 2 * width - 1, G)``. Windows of the table are views, so no index is stored.
    """
    view_hwgij = table_hwg.unfold(0, height, 1).unfold(1, width, 1).flip(3, 4)
    return view_hwgij.permute(2, 0, 1, 3, 4).reshape(table_hwg.shape[2], height * width, height * width)
