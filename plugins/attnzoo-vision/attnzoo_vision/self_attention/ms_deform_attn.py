"""Multi-scale deformable attention of Deformable DETR."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input
from attnzoo_vision.ops.deformable import Sizes, level_sizes, ring_offsets, sample_levels
from attnzoo_vision.ops.sizes import pair


class MSDeformAttn(nn.Module):
    """Attend to a few learned places around a reference point, on each of several maps.

    ``y_i = W_out [sum_lp a_iglp v_lg(r_il + o_iglp / size_l)]_g + b``; offsets ``o`` and weights ``a`` (softmax over
    all levels and points of a head) are linear in the query. With a reference box, offsets are in half boxes:
    ``r_xy + o / points * r_wh / 2``.

    Args:
        embed_dim: Channels of queries, values and output.
        num_heads: Heads.
        num_levels: Maps that are sampled.
        num_points: Places for each head and map.
        level_shapes: Height and width of each map, used where a call gives none.

    Shape:
        query ``(N, L, C)``, reference ``(N, L, V, 2)`` (x, y in 0..1) or ``(N, L, V, 4)`` (box: x, y, w, h), value
        ``(N, S, C)``, the maps one after the other, to ``(N, L, C)``. Optional ``mask`` ``(N, S)``, True where the
        value counts (padding contributes zero), and ``level_shapes`` ``(V, 2)``.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, level_shapes are missing or do not sum to S, or the
            last axis of the reference is neither 2 nor 4.

    Source:
        Zhu et al., "Deformable DETR: Deformable Transformers for End-to-End Object Detection", ICLR 2021,
        arXiv:2010.04159, eq. 3. Authors' code: github.com/fundamentalvision/Deformable-DETR @ 11169a6,
        models/ops/modules/ms_deform_attn.py, class MSDeformAttn.
        Deviations: the mask is True where theirs is False; the starts of the levels follow from their shapes.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        level_shapes: list[list[int]] | None = None,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        name = "MSDeformAttn"
        check_at_least(name, 1, embed_dim=embed_dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points)
        check_divides(name, "num_heads", num_heads, "embed_dim", embed_dim)
        if level_shapes is not None and len(level_shapes) != num_levels:
            message = f"{name}: num_levels={num_levels} is not the number of level_shapes={level_shapes}; "
            message += f"use num_levels={len(level_shapes)}"
            raise ValueError(message)
        for shape in level_shapes or []:
            check_at_least(name, 1, level_shapes=pair(name, "level_shapes", shape))
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.level_shapes = level_shapes
        places = num_heads * num_levels * num_points
        self.offset = nn.Linear(embed_dim, 2 * places)
        self.weight = nn.Linear(embed_dim, places)
        self.value = nn.Linear(embed_dim, embed_dim)
        self.projection = nn.Linear(embed_dim, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with the points of each head on a ray, all of one weight, as the authors do."""
        nn.init.zeros_(self.offset.weight)
        with torch.no_grad():
            self.offset.bias.copy_(ring_offsets(self.num_heads, self.num_levels, self.num_points).flatten())
        for tensor in (self.weight.weight, self.weight.bias, self.value.bias, self.projection.bias):
            nn.init.zeros_(tensor)
        nn.init.xavier_uniform_(self.value.weight)
        nn.init.xavier_uniform_(self.projection.weight)

    def forward(
        self,
        query_nlc: Tensor,
        reference_nlvk: Tensor,
        value_nsc: Tensor,
        mask_ns: Tensor | None = None,
        level_shapes: Tensor | Sizes | None = None,
    ) -> Tensor:
        """Return the attended values for each query."""
        check_input("MSDeformAttn", query_nlc, self.embed_dim, "NLC", name="query", argument="embed_dim")
        check_input("MSDeformAttn", value_nsc, self.embed_dim, "NLC", name="value", argument="embed_dim")
        sizes = self._sizes(value_nsc, level_shapes)
        value_nsc = self.value(value_nsc)
        if mask_ns is not None:
            value_nsc = value_nsc.masked_fill((mask_ns == 0).unsqueeze(2), 0.0)
        places = self._places(query_nlc, reference_nlvk, sizes)
        weights = self._weights(query_nlc)
        y_nlc: Tensor = self.projection(
            sample_levels(value_nsc.unflatten(2, (self.num_heads, -1)), sizes, places, weights)
        )
        return y_nlc

    def attention(
        self,
        query_nlc: Tensor,
        reference_nlvk: Tensor,
        value_nsc: Tensor,
        mask_ns: Tensor | None = None,
        level_shapes: Tensor | Sizes | None = None,
    ) -> dict[str, Tensor]:
        """Return ``place``, (x, y) in 0..1, and ``weight``, for each query, head, level and point."""
        check_input("MSDeformAttn", query_nlc, self.embed_dim, "NLC", name="query", argument="embed_dim")
        check_input("MSDeformAttn", value_nsc, self.embed_dim, "NLC", name="value", argument="embed_dim")
        del mask_ns
        sizes = self._sizes(value_nsc, level_shapes)
        return {"place": self._places(query_nlc, reference_nlvk, sizes), "weight": self._weights(query_nlc)}

    def _sizes(self, value_nsc: Tensor, level_shapes: Tensor | Sizes | None) -> list[tuple[int, int]]:
        given = self.level_shapes if level_shapes is None else level_shapes
        return level_sizes("MSDeformAttn", given, value_nsc.shape[1])

    def _weights(self, query_nlc: Tensor) -> Tensor:
        logits_nlgk = self.weight(query_nlc).unflatten(2, (self.num_heads, -1))
        y: Tensor = torch.softmax(logits_nlgk, dim=3).unflatten(3, (self.num_levels, self.num_points))
        return y

    def _places(self, query_nlc: Tensor, reference_nlvk: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        offset_nlgk = self.offset(query_nlc).unflatten(2, (self.num_heads, -1))
        shape = (self.num_levels, self.num_points, 2)
        if reference_nlvk.shape[3] == 2:
            size_v12 = query_nlc.new_tensor([[[width, height]] for height, width in sizes])
            size_k = size_v12.expand(shape).flatten()
            return torch.unflatten(self._at_points(reference_nlvk) + offset_nlgk / size_k, 3, shape)
        if reference_nlvk.shape[3] == 4:
            centre_nl1k, box_nl1k = (self._at_points(part) for part in reference_nlvk.split(2, dim=3))
            return torch.unflatten(centre_nl1k + offset_nlgk * (box_nl1k * (0.5 / self.num_points)), 3, shape)
        message = f"MSDeformAttn: reference has {reference_nlvk.shape[3]} numbers, expected 2 (point) or 4 (box); "
        message += "give (x, y) or (x, y, width, height)"
        raise ValueError(message)

    def _at_points(self, reference_nlv2: Tensor) -> Tensor:
        """Return ``(N, L, 1, V * P * 2)``, for each point: sums of long rows are quicker than those of pairs."""
        return reference_nlv2.unsqueeze(3).expand(-1, -1, self.num_levels, self.num_points, -1).flatten(2).unsqueeze(2)
