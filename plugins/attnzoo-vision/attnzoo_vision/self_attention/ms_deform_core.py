"""Multi-scale deformable sampling: the core of deformable attention, without parameters."""

from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least
from attnzoo_vision.ops.deformable import Sizes, level_sizes, sample_levels
from attnzoo_vision.ops.sizes import pair


class MSDeformCore(nn.Module):
    """Sum values at given places of several maps with given weights.

    ``y_ig = sum_level sum_point weight_iglp bilinear(value_level,g, place_iglp)``, zero outside the maps.

    Args:
        level_shapes: Height and width of each level, used where a call gives none.

    Shape:
        value ``(N, S, G, D)``, the maps of all levels one after the other; place ``(N, L, G, V, P, 2)``, (x, y) with 0
        and 1 at the borders; weight ``(N, L, G, V, P)`` to ``(N, L, G * D)``. Optional ``level_shapes`` ``(V, 2)``.

    Raises:
        ValueError: Neither the constructor nor the call gives level_shapes, or their sizes do not sum to S.

    Source:
        Zhu et al., "Deformable DETR: Deformable Transformers for End-to-End Object Detection", ICLR 2021,
        arXiv:2010.04159, eq. 3. Authors' code: github.com/fundamentalvision/Deformable-DETR @ 11169a6,
        models/ops/functions/ms_deform_attn_func.py, function ms_deform_attn_core_pytorch.
        Deviations: levels are added one by one, not stacked; the numbers are the same.
    """

    def __init__(self, *, level_shapes: list[list[int]] | None = None) -> None:
        super().__init__()
        for shape in level_shapes or []:
            check_at_least("MSDeformCore", 1, level_shapes=pair("MSDeformCore", "level_shapes", shape))
        self.level_shapes = level_shapes

    def forward(
        self,
        value_nsgd: Tensor,
        place_nlgvp2: Tensor,
        weight_nlgvp: Tensor,
        level_shapes: Tensor | Sizes | None = None,
    ) -> Tensor:
        """Return the weighted sums."""
        given = self.level_shapes if level_shapes is None else level_shapes
        sizes = level_sizes("MSDeformCore", given, value_nsgd.shape[1])
        return sample_levels(value_nsgd, sizes, place_nlgvp2, weight_nlgvp)
