"""Group norm that also takes a single value in each group, and that compilers for a CPU do not slow down."""

from typing import Any

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.compiling import compiled_for_cpu
from attnzoo_vision.ops.layout import in_layout_of, with_usual_strides


class GroupNorm(nn.GroupNorm):
    """``nn.GroupNorm`` that gives its bias for a single value in each group of a single sample, where torch raises."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input."""
        if self._is_slowed(input):
            y_nchw: Tensor = _norm_operator(input, self.weight, self.bias, self.num_groups, self.eps)[0]
            return y_nchw
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def _is_slowed(self, x: Tensor) -> bool:
        """Say whether a compiler would make it slow: a float32 map, with groups of several channels."""
        if not compiled_for_cpu(x) or x.dim() != 4 or x.numel() == 0 or self.num_groups == self.num_channels:
            return False
        whole = self.weight is not None and self.bias is not None
        return whole and x.dtype == self.weight.dtype == torch.float32


# as an operator of torch it stays what it is; a compiler sums channels-last groups of channels against the grain
@torch.library.custom_op("attnzoo_vision::group_norm", mutates_args=())
def _norm_operator(
    x_nchw: Tensor, weight_c: Tensor, bias_c: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    n, c, h, w = x_nchw.shape
    x_nchw = with_usual_strides(x_nchw)  # torch's kernel refuses others
    y_nchw, mean_ng, inverse_ng = torch.native_group_norm(x_nchw, weight_c, bias_c, n, c, h * w, groups, eps)
    return y_nchw, mean_ng, inverse_ng


@torch.library.custom_op("attnzoo_vision::group_norm_backward", mutates_args=())
def _norm_backward_operator(
    grad_nchw: Tensor, x_nchw: Tensor, mean_ng: Tensor, inverse_ng: Tensor, weight_c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    n, c, h, w = x_nchw.shape
    x_nchw, grad_nchw = (with_usual_strides(t) for t in (x_nchw, in_layout_of(x_nchw, grad_nchw)))
    sizes = (n, c, h * w, mean_ng.shape[1])
    grads: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_group_norm_backward(
        grad_nchw, x_nchw, mean_ng, inverse_ng, weight_c, *sizes, [True] * 3
    )
    return grads


@_norm_operator.register_fake
def _like_norm(
    x_nchw: Tensor, weight_c: Tensor, bias_c: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    mean_ng = x_nchw.new_empty(x_nchw.shape[0], groups)
    return torch.empty_like(with_usual_strides(x_nchw)), mean_ng, torch.empty_like(mean_ng)


@_norm_backward_operator.register_fake
def _like_gradients(
    grad_nchw: Tensor, x_nchw: Tensor, mean_ng: Tensor, inverse_ng: Tensor, weight_c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(with_usual_strides(x_nchw)), torch.empty_like(weight_c), torch.empty_like(weight_c)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int, float], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x_nchw, weight_c, *_ = inputs
    ctx.save_for_backward(x_nchw, *output[1:], weight_c)


def _norm_gradient(ctx: Any, grad_nchw: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    return *_norm_backward_operator(grad_nchw, *ctx.saved_tensors), None, None


_norm_operator.register_autograd(_norm_gradient, setup_context=_save)
