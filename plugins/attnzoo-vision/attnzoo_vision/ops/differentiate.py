"""Gradients that are differentiated again or taken in batches, of functions with a gradient written out for speed."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from attnzoo_vision.ops.compiling import runs_plainly


def is_last_gradient(grad: Tensor) -> bool:
    """Say, in a backward pass, whether the written gradient may be used.

    It may not if it is to be differentiated or transformed, or if ``grad`` is a batch of gradients, which
    ``torch.autograd.grad`` marks by a key of the tensor alone.
    """
    batched = torch._C._dispatch_keys(grad).has(torch._C._dispatch_key_parse("Batched"))
    return not torch.is_grad_enabled() and runs_plainly() and not batched


def differentiate(
    plain: Callable[..., Tensor], inputs: Sequence[Tensor | None], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the gradients of ``plain(*inputs)``, which can be differentiated in turn; None where none is wanted.

    The function is given views of the inputs: where one input was computed from another, the gradient of the second
    must not count in what it has through the first, which autograd adds itself.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        views = [None if t is None else t.view_as(t) for t in inputs]
        wanted = [t for t in views if t is not None and t.requires_grad]
        grads = iter(torch.autograd.grad(plain(*views), wanted, grad, create_graph=again))
    return tuple(next(grads) if t is not None and t.requires_grad else None for t in views)
