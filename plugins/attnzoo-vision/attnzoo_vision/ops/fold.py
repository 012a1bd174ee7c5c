"""Batch norm as a factor and a summand of each channel, to be joined with the projection before it."""

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm


def scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return what ``norm`` multiplies with and adds in evaluation, ``(C,)`` each; gradients pass."""
    mean_c, variance_c = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale_c = norm.weight * torch.rsqrt(variance_c + norm.eps)
    return scale_c, norm.bias - mean_c * scale_c
