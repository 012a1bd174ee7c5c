"""The place lambdas of a lambda layer and their application: a convolution of the values, in three exact forms."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import affine
from attnzoo_vision.ops.compiling import may_specialise
from attnzoo_vision.ops.convolution import convolve_by

_FEW = 128  # positions up to which the products of all pairs are quicker than the convolution
_WIDE = 64  # values from which they fill the vector lanes of the convolution


def apply_lambdas(
    query_ngks: Tensor, content_nvk: Tensor, value_nuvs: Tensor, place: nn.Conv2d, size: tuple[int, int]
) -> Tensor:
    """Return ``q^T (content + place(values))`` at each position of a map of ``size``, ``(N, S, G, V)``."""
    on_cpu = query_ngks.device.type == "cpu" and may_specialise(query_ngks)
    weight_kuhw, bias_k = affine(place, same=True)
    if bias_k is not None:
        content_nvk = content_nvk + bias_k
    if on_cpu and query_ngks.shape[3] <= _FEW:
        return _by_pairs(query_ngks, content_nvk, value_nuvs, weight_kuhw, size)
    form = _places_of_wide_values if on_cpu and value_nuvs.shape[2] >= _WIDE else _places_of_images
    lambda_nskv = form(value_nuvs, weight_kuhw, size) + content_nvk.transpose(1, 2).unsqueeze(1)
    return torch.matmul(query_ngks.permute(0, 3, 1, 2), lambda_nskv)


def _by_pairs(
    query_ngks: Tensor, content_nvk: Tensor, value_nuvs: Tensor, weight_kuhw: Tensor, size: tuple[int, int]
) -> Tensor:
    """Multiply the queries with the window first: a weight for each pair of positions, for all values."""
    pair_ngsut = torch.einsum("ngks,kust->ngsut", query_ngks, _window_of_pairs(weight_kuhw, size))
    value_ntv = value_nuvs.transpose(2, 3).flatten(1, 2)
    y_ngsv = torch.matmul(pair_ngsut.flatten(3), value_ntv.unsqueeze(1))
    y_ngsv = y_ngsv + torch.matmul(query_ngks.transpose(2, 3), content_nvk.transpose(1, 2).unsqueeze(1))
    return y_ngsv.transpose(1, 2)


def _window_of_pairs(weight_kuhw: Tensor, size: tuple[int, int]) -> Tensor:
    """Return ``(K, U, S, S)``: what the window of a query (third axis) holds for a key, 0 outside of it."""
    (height, width), (rows, columns) = size, weight_kuhw.shape[2:]
    up, left = height - 1 - rows // 2, width - 1 - columns // 2  # zeros to add, or if negative rows to leave out
    shift_kuhw = F.pad(weight_kuhw, (left, left, up, up))
    pair_kuhwij = shift_kuhw.unfold(2, height, 1).unfold(3, width, 1).flip(2, 3)
    return pair_kuhwij.reshape(*weight_kuhw.shape[:2], height * width, height * width)


def _places_of_images(value_nuvs: Tensor, weight_kuhw: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the place lambdas ``(N, S, K, V)``, each value convolved as an image of its own."""
    image_buhw = value_nuvs.transpose(1, 2).flatten(0, 1).unflatten(2, size)
    place_bkhw = convolve_by(image_buhw, weight_kuhw)
    place_nvks = torch.unflatten(place_bkhw.flatten(2), 0, (value_nuvs.shape[0], value_nuvs.shape[2]))
    return place_nvks.permute(0, 3, 2, 1)


def _places_of_wide_values(value_nuvs: Tensor, weight_kuhw: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the place lambdas ``(N, S, K, V)`` by a convolution with a third axis, of the values."""
    volume_nuhwv = value_nuvs.transpose(2, 3).unflatten(2, size)
    place_nkhwv = convolve_by(volume_nuhwv, weight_kuhw.unsqueeze(4))
    return place_nkhwv.flatten(2, 3).transpose(1, 2)
