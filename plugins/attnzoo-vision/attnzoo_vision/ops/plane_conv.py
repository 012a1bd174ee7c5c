"""Convolution of a few planes to a single one, which leaves most vector lanes of the usual kernels idle."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_vision.ops.convolution import convolve_by

_LARGE = 1024  # pixels from which the form by rows is the quicker one


def convolve_to_plane(x_nphw: Tensor, weight_1pkk: Tensor) -> Tensor:
    """Return ``F.conv2d(x, weight, padding="same")`` for an odd kernel and one output plane, ``(N, 1, H, W)``.

    On large planes without autograd the rows of the kernel become output planes of one convolution, added shifted.
    """
    height, width = x_nphw.shape[2:]
    tracked = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if tracked or x_nphw.device.type != "cpu" or height * width < _LARGE:
        return convolve_by(x_nphw, weight_1pkk)
    return _convolve_by_rows(x_nphw, weight_1pkk)


def _convolve_by_rows(x_nphw: Tensor, weight_1pkk: Tensor) -> Tensor:
    height, middle = x_nphw.shape[2], weight_1pkk.shape[-1] // 2
    rows_nkhw = F.conv2d(x_nphw, weight_1pkk.permute(2, 1, 0, 3), padding=(0, middle))
    y_nhw = rows_nkhw[:, middle].clone()
    for shift in range(1, min(middle + 1, height)):
        y_nhw[:, shift:] += rows_nkhw[:, middle - shift, : height - shift]
        y_nhw[:, : height - shift] += rows_nkhw[:, middle + shift, shift:]
    return y_nhw.unsqueeze(1)
