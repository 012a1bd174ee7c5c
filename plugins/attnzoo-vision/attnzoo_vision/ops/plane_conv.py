"""Convolution of a few planes to a single one, which leaves most vector lanes of the usual kernels idle."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_vision.ops.compiling import may_specialise
from attnzoo_vision.ops.convolution import convolve, convolve_by, is_same

_LARGE = 1024  # pixels from which the form by rows is the quicker one


def call_to_plane(layer: nn.Module, x_nphw: Tensor) -> Tensor:
    """Return ``layer(x)``, of a convolution with one output plane, by :func:`convolve_to_plane` if that is all it does.

    Other padding, sizes and hooks, and what stands in its place, are left to itself.
    """
    if not is_same(layer):
        return convolve(layer, x_nphw)
    return convolve_to_plane(x_nphw, layer.weight, layer.bias)


def convolve_to_plane(x_nphw: Tensor, weight_1pkk: Tensor, bias_1: Tensor | None = None) -> Tensor:
    """Return ``F.conv2d(x, weight, bias, padding="same")`` for an odd kernel and one output plane, ``(N, 1, H, W)``.

    On large planes without autograd the rows of the kernel become output planes of one convolution, added shifted.
    """
    height, width = x_nphw.shape[2:]
    large = x_nphw.device.type == "cpu" and height * width >= _LARGE
    if torch.is_grad_enabled() or not large or not may_specialise(x_nphw):
        return convolve_by(x_nphw, weight_1pkk, bias_1)
    by_rows = _operator if torch.compiler.is_compiling() else _convolve_by_rows
    y_n1hw: Tensor = by_rows(x_nphw, weight_1pkk)
    return y_n1hw if bias_1 is None else y_n1hw + bias_1


def _convolve_by_rows(x_nphw: Tensor, weight_1pkk: Tensor) -> Tensor:
    height, middle = x_nphw.shape[2], weight_1pkk.shape[-1] // 2
    rows_nkhw = F.conv2d(x_nphw, weight_1pkk.permute(2, 1, 0, 3), padding=(0, middle))
    y_nhw = rows_nkhw[:, middle].clone()
    for shift in range(1, min(middle + 1, height)):
        y_nhw[:, shift:] += rows_nkhw[:, middle - shift, : height - shift]
        y_nhw[:, : height - shift] += rows_nkhw[:, middle + shift, shift:]
    return y_nhw.unsqueeze(1)


_operator = torch.library.custom_op("attnzoo_vision::convolve_by_rows", _convolve_by_rows, mutates_args=())


@_operator.register_fake
def _plane_like(x_nphw: Tensor, _weight: Tensor) -> Tensor:
    return x_nphw.new_empty(x_nphw.shape[0], 1, *x_nphw.shape[2:])
