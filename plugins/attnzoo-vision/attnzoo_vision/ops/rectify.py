"""ReLU of whole maps, whose gradient a compiler for a CPU would read from a map of truth values, ten times slower."""

from typing import Any

import torch
from torch import Tensor

from attnzoo_vision.ops.compiling import compiled_for_cpu, may_overwrite


def rectify(x: Tensor) -> Tensor:
    """Return ``relu(x)``; compiled, an infinite gradient becomes NaN, not 0, where the output is 0."""
    if torch.is_grad_enabled() and compiled_for_cpu(x):
        y: Tensor = _Rectify.apply(x)  # type: ignore[no-untyped-call]
        return y
    return torch.relu(x)


def rectify_(fresh: Tensor) -> Tensor:
    """Return ``relu(fresh)``, written over ``fresh`` where that is quicker."""
    return torch.relu_(fresh) if may_overwrite(fresh) else rectify(fresh)


class _Rectify(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.relu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * torch.sign(ctx.saved_tensors[0])
