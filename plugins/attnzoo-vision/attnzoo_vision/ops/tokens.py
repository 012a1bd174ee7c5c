"""Maps as tokens: views and 1x1 projections that keep the memory layout of the map.

A contiguous map ``(N, C, H, W)`` is ``(N, C, L)`` in memory, a channels-last one ``(N, L, C)``. Both have views of
both kinds; these helpers choose the matrix product that needs no copy.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.compiling import may_overwrite, may_specialise
from attnzoo_vision.ops.layout import is_channels_last
from attnzoo_vision.ops.window_pooling import max_pool2d


def as_tokens(x_ncs: Tensor) -> Tensor:
    """Return ``(N, L, C)``, a view of a contiguous or channels-last map with any number of spatial axes."""
    return x_ncs.flatten(2).transpose(1, 2)


def project(x_ncs: Tensor, weight_oc: Tensor, bias_o: Tensor | None = None) -> Tensor:
    """Return the tokens of a 1x1 convolution of ``x_ncs``: contiguous ``(N, L, O)``."""
    x_nlc = as_tokens(x_ncs)
    if x_nlc.is_contiguous() or _few(x_nlc, weight_oc):
        return F.linear(x_nlc.contiguous(), weight_oc, bias_o)
    weight_nco = weight_oc.t().expand(x_nlc.shape[0], -1, -1)
    if bias_o is None:
        return torch.bmm(x_nlc, weight_nco)
    return torch.baddbmm(bias_o, x_nlc, weight_nco)


def project_back(y_nld: Tensor, weight_cd: Tensor, bias_c: Tensor | None, like_ncs: Tensor) -> Tensor:
    """Return the map of a 1x1 convolution of tokens, with the spatial sizes and the memory layout of ``like_ncs``.

    The weight may also be one for each sample, ``(N, C, D)``.
    """
    if is_channels_last(like_ncs):
        if weight_cd.dim() == 2:
            return tokens_to_map(F.linear(y_nld, weight_cd, bias_c), like_ncs)
        weight_ndc = weight_cd.transpose(1, 2)
        y_nlc = torch.bmm(y_nld, weight_ndc) if bias_c is None else torch.baddbmm(bias_c, y_nld, weight_ndc)
        return tokens_to_map(y_nlc, like_ncs)
    if weight_cd.dim() == 2 and _few(y_nld, weight_cd):
        return tokens_to_map(F.linear(y_nld.contiguous(), weight_cd, bias_c), like_ncs).contiguous()
    weight_ncd = weight_cd.expand(y_nld.shape[0], -1, -1)
    y_ndl = y_nld.transpose(1, 2)
    y_ncl = torch.bmm(weight_ncd, y_ndl) if bias_c is None else torch.baddbmm(bias_c[:, None], weight_ncd, y_ndl)
    return torch.unflatten(y_ncl, 2, like_ncs.shape[2:])


def _few(x_nlc: Tensor, weight_oc: Tensor) -> bool:
    """Say whether a copy of the map costs less than a product, and a gradient of the weight, for each sample."""
    times = 4 if torch.is_grad_enabled() else 10  # measured with 49 and 196 tokens of 128 to 2048 channels
    return may_specialise(x_nlc) and times * x_nlc.shape[1] <= min(weight_oc.shape)


def tokens_to_map(y_nlc: Tensor, like_ncs: Tensor) -> Tensor:
    """Return the view ``(N, C, ...)`` of tokens, with the spatial sizes of ``like_ncs``."""
    return torch.unflatten(y_nlc, 1, like_ncs.shape[2:]).movedim(-1, 1)


def add_shortcut(y_ncs: Tensor, x_ncs: Tensor) -> Tensor:
    """Return ``y_ncs + x_ncs``; ``y_ncs`` must be fresh and not needed by its own backward."""
    return y_ncs.add_(x_ncs) if y_ncs.dtype == x_ncs.dtype and may_overwrite(y_ncs) else y_ncs + x_ncs


def max_pool(x_ncs: Tensor, size: int | list[int] | tuple[int, ...], block: str) -> Tensor:
    """Return the max-pooled map, one window size for all spatial axes or one for each; ``x_ncs`` itself for size 1.

    Raises:
        ValueError: The ``pool_size`` of ``block`` has not one number for each spatial axis.
    """
    axes = x_ncs.dim() - 2
    sizes = [size] * axes if isinstance(size, int) else list(size)
    if all(length == 1 for length in sizes):
        return x_ncs
    if len(sizes) != axes:
        message = f"{block}: pool_size={size!r} has {len(sizes)} numbers, the input {axes} axes; give one for each"
        raise ValueError(message)
    pool = (F.max_pool1d, max_pool2d, F.max_pool3d)[axes - 1]
    y_ncs: Tensor = pool(x_ncs, sizes)
    return y_ncs
