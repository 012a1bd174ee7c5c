"""Norms that are joined with what is around them: which ones may be, and batch norms as factors and summands."""

from collections.abc import Container
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attnzoo.layers import is_hooked
from attnzoo_vision.ops.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from attnzoo_vision.ops.compiling import runs_plainly
from attnzoo_vision.ops.convolution import convolve, is_untouched
from attnzoo_vision.ops.group_norm import GroupNorm
from attnzoo_vision.ops.tokens import project_back

_BATCH_NORMS = tuple(kind.forward for kind in (_BatchNorm, nn.SyncBatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d))
_GROUP_NORMS = (nn.GroupNorm.forward, GroupNorm.forward)


def is_plain_norm(norm: nn.Module) -> TypeGuard[_BatchNorm]:
    """Say whether ``norm`` is a batch norm of torch or of ours, with nothing hooked to it; others may do more."""
    return isinstance(norm, _BatchNorm) and _is_untouched(norm, _BATCH_NORMS)


def is_plain_instance_norm(norm: nn.Module) -> TypeGuard[nn.GroupNorm]:
    """Say whether ``norm`` is a group norm of torch or of ours of single channels, with weight, bias and no hook."""
    if not isinstance(norm, nn.GroupNorm) or not _is_untouched(norm, _GROUP_NORMS):
        return False
    return norm.affine and norm.num_groups == norm.num_channels


def _is_untouched(norm: nn.Module, forwards: Container[object]) -> bool:
    return type(norm).forward in forwards and "forward" not in norm.__dict__ and not is_hooked(norm)


def is_joinable(norm: nn.Module) -> TypeGuard[_BatchNorm]:
    """Say whether ``norm`` is, as it stands, a factor and a summand a channel, those of `scale_and_shift`.

    So is a batch norm in evaluation, with its parameters and running statistics, unless something is hooked to it. Any
    other norm, and what stands in the place of one, is to be called.
    """
    if not is_plain_norm(norm) or norm.training:
        return False
    return all(t is not None for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var))


def scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return what ``norm``, which `is_joinable`, multiplies with and adds, ``(C,)`` each; gradients pass."""
    mean_c, variance_c = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale_c = norm.weight * torch.rsqrt(variance_c + norm.eps)
    return scale_c, norm.bias - mean_c * scale_c


def before_norm(weight: Tensor, bias_o: Tensor | None, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return the weight and bias of a layer and the ``norm`` behind it, which `is_joinable`, as one."""
    scale_o, shift_o = scale_and_shift(norm)
    shift_o = shift_o if bias_o is None else shift_o + bias_o * scale_o
    return weight * scale_o.view(-1, *[1] * (weight.dim() - 1)), shift_o


def fresh_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """Return ``norm(x)`` to be written over: a copy, where a hook may keep what it saw, or the norm gave its input."""
    y: Tensor = norm(x)
    return y.clone() if y is x or is_hooked(norm) else y


def conv_and_norm(conv: nn.Conv2d, norm: nn.Module, x_nchw: Tensor) -> Tensor:
    """Return ``norm(conv(x_nchw))``, to be written over.

    In inference the norm joins the weights, if they are fewer than the results.
    """
    if isinstance(norm, nn.Identity) and is_untouched(conv) and not is_hooked(norm):
        return convolve(conv, x_nchw)
    if not (is_joinable(norm) and _joined(conv, norm, x_nchw)):
        return fresh_norm(norm, convolve(conv, x_nchw))
    weight, bias_o = before_norm(conv.weight, conv.bias, norm)
    return F.conv2d(x_nchw, weight, bias_o, conv.stride, conv.padding, conv.dilation, conv.groups)


def project_and_norm(
    x_nlr: Tensor, weight_or: Tensor, bias_o: Tensor | None, norm: nn.Module, like_ncs: Tensor
) -> Tensor:
    """Return the map ``norm(W x + b)`` of tokens, to be written over, in the sizes of ``like_ncs``.

    In evaluation the norm joins the weight.
    """
    if not is_joinable(norm):
        return fresh_norm(norm, project_back(x_nlr, weight_or, bias_o, like_ncs))
    return project_back(x_nlr, *before_norm(weight_or, bias_o, norm), like_ncs)


def _joined(conv: nn.Conv2d, norm: _BatchNorm, x_nchw: Tensor) -> bool:
    """Say whether the two can be one: plain eager inference in full precision, with nothing hooked to ``conv``."""
    if torch.is_grad_enabled() or not runs_plainly() or x_nchw.device.type not in ("cpu", "cuda"):
        return False
    if torch.is_autocast_enabled(x_nchw.device.type):
        return False
    if conv.weight.numel() > x_nchw.shape[0] * conv.out_channels * x_nchw.shape[2] * x_nchw.shape[3]:
        return False
    if not is_untouched(conv):
        return False
    return x_nchw.dtype in (torch.float32, torch.float64) and conv.weight.dtype == norm.weight.dtype == x_nchw.dtype
