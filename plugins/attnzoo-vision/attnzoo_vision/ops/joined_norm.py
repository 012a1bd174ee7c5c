"""Batch norm as a factor and a summand of each channel, to be joined with the projection before it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attnzoo.layers import is_hooked
from attnzoo_vision.ops.compiling import runs_plainly
from attnzoo_vision.ops.convolution import convolve, is_untouched


def scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return what ``norm`` multiplies with and adds in evaluation, ``(C,)`` each; gradients pass."""
    mean_c, variance_c = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale_c = norm.weight * torch.rsqrt(variance_c + norm.eps)
    return scale_c, norm.bias - mean_c * scale_c


def conv_and_norm(conv: nn.Conv2d, norm: _BatchNorm, x_nchw: Tensor) -> Tensor:
    """Return ``norm(conv(x_nchw))``; in inference the norm joins the weights, if they are fewer than the results."""
    if not _joined(conv, norm, x_nchw):
        y_nchw: Tensor = norm(convolve(conv, x_nchw))
        return y_nchw
    scale_o, shift_o = scale_and_shift(norm)
    if conv.bias is not None:
        shift_o = shift_o + conv.bias * scale_o
    weight = conv.weight * scale_o[:, None, None, None]
    return F.conv2d(x_nchw, weight, shift_o, conv.stride, conv.padding, conv.dilation, conv.groups)


def _joined(conv: nn.Conv2d, norm: _BatchNorm, x_nchw: Tensor) -> bool:
    """Say whether the two can be one: plain eager inference in full precision, with nothing hooked to either."""
    if torch.is_grad_enabled() or not runs_plainly() or x_nchw.device.type not in ("cpu", "cuda"):
        return False
    if torch.is_autocast_enabled(x_nchw.device.type):
        return False
    if conv.weight.numel() > x_nchw.shape[0] * conv.out_channels * x_nchw.shape[2] * x_nchw.shape[3]:
        return False
    touched = not is_untouched(conv) or norm.running_mean is None
    full = x_nchw.dtype in (torch.float32, torch.float64) and conv.weight.dtype == norm.weight.dtype == x_nchw.dtype
    return full and not (norm.training or touched or is_hooked(norm))
