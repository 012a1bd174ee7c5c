"""Weighted sums of the branches of a convolution."""

from collections.abc import Sequence

from torch import Tensor

from attnzoo_vision.ops.compiling import runs_plainly
from attnzoo_vision.ops.layout import channels_last_view
from attnzoo_vision.ops.pooling import global_mean


def pooled_sum(branches: Sequence[Tensor]) -> Tensor:
    """Return the mean over all pixels of the sum of maps ``(N, C, H, W)``, ``(N, C)``."""
    total_nc = global_mean(branches[0])
    for branch_nchw in branches[1:]:
        total_nc = total_nc + global_mean(branch_nchw)
    return total_nc


def weighted_sum(branches: Sequence[Tensor], weight_nbc: Tensor) -> Tensor:
    """Return the sum of maps ``(N, C, H, W)``, each scaled by its weights ``(N, B, C)``, without stacking them.

    The maps are overwritten where no gradient needs them: hand in maps of your own.
    """
    weights = [weight_nbc[:, index, :, None, None] for index in range(len(branches))]
    plain = not runs_plainly() or any(t.requires_grad for t in (*branches, weight_nbc))
    if plain or any(t.dtype != weight_nbc.dtype for t in branches):
        return _sum_of_products(branches, weight_nbc)
    total = branches[0].mul_(weights[0])
    for branch, weight in zip(branches[1:], weights[1:], strict=True):
        total.add_(branch.mul_(weight))
    return total


def _sum_of_products(branches: Sequence[Tensor], weight_nbc: Tensor) -> Tensor:
    """Return the weighted sum; of channels-last views, whose gradients a compiler would write contiguous."""
    views = [channels_last_view(branch) for branch in branches]
    channels_last = all(view is not None for view in views)
    maps = [view for view in views if view is not None] if channels_last else branches
    weight = weight_nbc[:, :, None, None, :] if channels_last else weight_nbc[..., None, None]
    total = maps[0] * weight[:, 0]
    for index in range(1, len(maps)):
        total = total + maps[index] * weight[:, index]
    return total.permute(0, 3, 1, 2) if channels_last else total
