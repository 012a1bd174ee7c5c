"""Gradients that are differentiated again, of functions whose own gradient is written out for speed."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def differentiate(
    plain: Callable[..., Tensor], inputs: Sequence[Tensor | None], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the gradients of ``plain(*inputs)``, which can be differentiated in turn; None where none is wanted.

    The function is given views of the inputs: where one input was computed from another, the gradient of the second
    must not count in what it has through the first, which autograd adds itself.
    """
    views = [None if t is None else t.view_as(t) for t in inputs]
    wanted = [t for t in views if t is not None and t.requires_grad]
    grads = iter(torch.autograd.grad(plain(*views), wanted, grad, create_graph=True))
    return tuple(next(grads) if t is not None and t.requires_grad else None for t in views)
