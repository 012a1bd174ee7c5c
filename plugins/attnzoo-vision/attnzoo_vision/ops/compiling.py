"""Who reads the code: nobody, a compiler for a CPU, which makes some forms slow that are quick eagerly, or others.

Exports and the transforms of ``torch.func`` are such others: they know the plain layers best.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad


def compiled_for_cpu(x: Tensor) -> bool:
    """Say whether ``torch.compile`` reads this for a CPU.

    False for exports, under autocast, and inside ``torch.func``, whose transforms operators of our own do not know.
    """
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting() or x.device.type != "cpu":
        return False
    return not torch.is_autocast_enabled("cpu") and not torch._C._are_functorch_transforms_active()


def runs_plainly() -> bool:
    """Say whether the code runs as it stands: not compiled, exported, traced, transformed or differentiated forward.

    Only then may a function have a gradient of its own, or write over tensors.
    """
    if (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
    ):
        return False
    return forward_ad._current_level < 0


def may_overwrite(fresh: Tensor) -> bool:
    """Say whether writing over ``fresh`` pays: autograd copies the gradient of a view; compilers fuse without it."""
    return not torch.compiler.is_compiling() and not (torch.is_grad_enabled() and fresh._is_view())


def may_specialise(x: Tensor) -> bool:
    """Say whether a form may be chosen by sizes: where the code runs plainly or is compiled for a CPU."""
    return runs_plainly() or compiled_for_cpu(x)


def settled(x: Tensor) -> Tensor:
    """Return ``x`` contiguous, and its gradient too.

    A compiler reads a small tensor, and a gradient, in the order in which they were made, through every map that they
    are spread over, one number at a time where that is not the order of the map. What this returns is in order.
    """
    y: Tensor = _settle(x) if compiled_for_cpu(x) else x.contiguous()
    return y


@torch.library.custom_op("attnzoo_vision::settle", mutates_args=())
def _settle(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


@_settle.register_fake
def _settle_like(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _settle_gradient(_ctx: Any, grad: Tensor) -> Tensor:
    settled_grad: Tensor = _settle(grad)
    return settled_grad


_settle.register_autograd(_settle_gradient)


def kept_sigmoid(x: Tensor) -> Tensor:
    """Return ``sigmoid(x)``, of which the gradient needs the result, where a compiler takes the exponentials again."""
    y: Tensor = _sigmoid(x) if compiled_for_cpu(x) and torch.is_grad_enabled() else torch.sigmoid(x)
    return y


def kept_silu(x: Tensor) -> Tensor:
    """Return ``silu(x)``; where a compiler takes the exponentials again for each of its sums, by `kept_sigmoid`.

    Half precision keeps torch's form, which rounds once.
    """
    whole = x.dtype in (torch.float32, torch.float64)
    return x * kept_sigmoid(x) if whole and compiled_for_cpu(x) and torch.is_grad_enabled() else F.silu(x)


@torch.library.custom_op("attnzoo_vision::sigmoid", mutates_args=())
def _sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@_sigmoid.register_fake
def _sigmoid_like(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _sigmoid_gradient(ctx: Any, grad: Tensor) -> Tensor:
    y: Tensor = ctx.saved_tensors[0]
    return grad * (y * (1 - y))


def _save_output(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(output)


_sigmoid.register_autograd(_sigmoid_gradient, setup_context=_save_output)


def kept_softmax(x: Tensor, dim: int) -> Tensor:
    """Return ``softmax(x)``, which a compiler takes number by number over short axes and of sums of spread tensors."""
    y: Tensor = _softmax(x, dim) if compiled_for_cpu(x) else torch.softmax(x, dim=dim)
    return y


@torch.library.custom_op("attnzoo_vision::softmax", mutates_args=())
def _softmax(x: Tensor, dim: int) -> Tensor:
    return torch.softmax(x.contiguous(), dim=dim)


@torch.library.custom_op("attnzoo_vision::softmax_backward", mutates_args=())
def _softmax_backward(grad: Tensor, output: Tensor, dim: int) -> Tensor:
    return torch._softmax_backward_data(grad.contiguous(), output, dim, grad.dtype)


@_softmax.register_fake
@_softmax_backward.register_fake
def _contiguous_like(x: Tensor, *_: object) -> Tensor:
    return x.new_empty(x.shape)


def _softmax_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return _softmax_backward(grad, ctx.saved_tensors[0], ctx.dim), None


def _save_softmax(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
    ctx.dim = inputs[1]
    ctx.save_for_backward(output)


_softmax.register_autograd(_softmax_gradient, setup_context=_save_softmax)
