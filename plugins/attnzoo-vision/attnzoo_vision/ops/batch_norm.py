"""Batch norm that can train on a single value a channel, and that compilers for a CPU do not slow down."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_vision.ops.axis_pooling import mean_over
from attnzoo_vision.ops.compiling import compiled_for_cpu
from attnzoo_vision.ops.layout import with_usual_strides


class BatchNorm1d(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` that takes the running statistics for a batch of one value a channel, where torch raises."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input."""
        y = _trained(self, input) if self.training else None
        return super().forward(input) if y is None else y


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` that takes the running statistics for a batch of one value a channel, where torch raises.

    Its eager gradients are right for any strides; on a CPU, torch's can be wrong where the batch, H or W is 1.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input."""
        return with_right_gradient(self._normalised, input)

    def _normalised(self, x_nchw: Tensor) -> Tensor:
        y_nchw = _trained(self, x_nchw) if self.training else None
        return super().forward(x_nchw) if y_nchw is None else y_nchw


class BatchNorm3d(nn.BatchNorm3d):
    """``nn.BatchNorm3d`` with right gradients, as :class:`BatchNorm2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input."""
        return with_right_gradient(super().forward, input)


def with_right_gradient(norm: Callable[[Tensor], Tensor], x_ncs: Tensor) -> Tensor:
    """Return ``norm(x_ncs)`` with its true gradient.

    Where the batch or a side of the map is 1, torch's batch norm for a CPU can take the strides of its input, or of the
    gradient that it is given, for those of another memory layout; its gradient is then wrong, though its output is not.
    The views around it give both their usual strides. Compilers have a batch norm of their own.
    """
    if torch.compiler.is_compiling() or x_ncs.device.type != "cpu" or not torch.is_grad_enabled():
        return norm(x_ncs)
    thin = x_ncs.dim() > 3 and 1 in (x_ncs.shape[0], *x_ncs.shape[2:])
    return with_usual_strides(norm(with_usual_strides(x_ncs))) if thin else norm(x_ncs)


def _trained(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor | None:
    """Return the normalised input in training where torch's own form fails or is slow, else None."""
    if x.numel() == x.shape[1]:
        return _with_running_statistics(norm, x)
    plain = x.dtype == torch.float32 and norm.affine and norm.track_running_stats and x.numel() > 0
    if not plain or norm.momentum is None or not compiled_for_cpu(x):
        return None
    rest = (1,) * (4 - x.dim())
    return _compiled(norm, x.reshape(*x.shape, *rest), norm.momentum).view(x.shape)


def _with_running_statistics(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)


def _compiled(norm: nn.BatchNorm1d | nn.BatchNorm2d, x_nchw: Tensor, momentum: float) -> Tensor:
    """Return the batch norm of two plain sums a channel; the compiler's own has running ones, with a division each."""
    y_nchw: Tensor
    y_nchw, mean_c, variance_c = _TwoSums.apply(x_nchw, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
    count = x_nchw.numel() // x_nchw.shape[1]
    with torch.no_grad():
        norm.get_buffer("num_batches_tracked").add_(1)
        norm.get_buffer("running_mean").lerp_(mean_c, momentum)
        norm.get_buffer("running_var").lerp_(variance_c * (count / (count - 1)), momentum)
    return y_nchw


class _TwoSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_nchw: Tensor, weight_c: Tensor, bias_c: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean_c = mean_over(x_nchw, (0, 2, 3))
        centred_nchw = x_nchw - mean_c[:, None, None]
        variance_c = mean_over(centred_nchw * centred_nchw, (0, 2, 3))
        inverse_c = torch.rsqrt(variance_c + eps)
        ctx.save_for_backward(x_nchw, mean_c, inverse_c, weight_c)
        ctx.mark_non_differentiable(mean_c, variance_c)
        return centred_nchw * (inverse_c * weight_c)[:, None, None] + bias_c[:, None, None], mean_c, variance_c

    @staticmethod
    def backward(ctx: Any, grad_nchw: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x_nchw, mean_c, inverse_c, weight_c = ctx.saved_tensors
        centred_nchw = x_nchw - mean_c[:, None, None]
        count = x_nchw.numel() // x_nchw.shape[1]
        bias_grad_c = grad_nchw.sum((0, 2, 3))
        product_c = (grad_nchw * centred_nchw).sum((0, 2, 3)) * inverse_c
        slope_c = product_c * inverse_c / count
        centred_grad_nchw = grad_nchw - (bias_grad_c / count)[:, None, None] - centred_nchw * slope_c[:, None, None]
        return centred_grad_nchw * (inverse_c * weight_c)[:, None, None], product_c, bias_grad_c, None
