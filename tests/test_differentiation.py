"""Gradients of gradients, and the transforms of ``torch.func``: every block has the same gradients by all of them."""

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

import attnzoo
from attnzoo.testing import subjects_of
from attnzoo.testing.subject import Subject, tensors_of

BLOCKS = [s for s in subjects_of(attnzoo.default_registry()) if "#" not in s.id]
NO_SECOND = {"vision/effective-se": "hardsigmoid"}  # blocks with a kernel of torch that has no second derivative


def called(subject: Subject, layout: torch.memory_format):
    """Return the function of a block of parameters and inputs, and these; the first one is given in ``layout``."""
    block = subject.build().double()
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in subject.inputs(subject.sizes()).items()}
    inputs = {k: v.contiguous(memory_format=layout) if v.dim() == 4 else v for k, v in inputs.items()}
    trained = {k: v for k, v in inputs.items() if v.is_floating_point()}
    parameters = {k: v.detach() for k, v in block.named_parameters()}

    def function(parameters: dict[str, Tensor], trained: dict[str, Tensor]) -> Tensor:
        outputs = tensors_of(functional_call(block, parameters, (), {**inputs, **trained}))
        return sum((o.square().sum() for o in outputs if o.is_floating_point()), torch.zeros(()))

    return function, parameters, trained


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # torch's own, of unfold under vmap
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("subject", BLOCKS, ids=lambda s: s.id)
def test_blocks_have_the_same_gradients_by_every_way(subject, layout):
    function, *arguments = called(subject, layout)
    leaves = [{k: v.clone().requires_grad_() for k, v in part.items()} for part in arguments]
    flat = [t for part in leaves for t in part.values()]
    # the fused attention of torch has no gradient of second order and no rule for vmap
    with sdpa_kernel(SDPBackend.MATH):
        plain = torch.autograd.grad(function(*leaves), flat, materialize_grads=True)
        again = torch.autograd.grad(function(*leaves), flat, materialize_grads=True, create_graph=True)
        close(again, plain)
        if subject.id in NO_SECOND:
            with pytest.raises(RuntimeError, match=NO_SECOND[subject.id]):
                differentiate_sum(again, flat)
        else:
            differentiate_sum(again, flat)
        transformed = grad(function, argnums=(0, 1))(*arguments)
        close([t for part in transformed for t in part.values()], plain)
        stacked = [{k: torch.stack([v, v]) for k, v in part.items()} for part in arguments]
        per_sample = vmap(grad(function, argnums=(0, 1)))(*stacked)
        close([t[1] for part in per_sample for t in part.values()], plain)


def differentiate_sum(tensors: list[Tensor], leaves: list[Tensor]) -> None:
    tracked = [t.square().sum() for t in tensors if t.requires_grad]
    if tracked:
        grads = torch.autograd.grad(sum(tracked), leaves, materialize_grads=True)
        assert all(g.isfinite().all() for g in grads)


def close(found: list[Tensor], expected: list[Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * (1 + theirs.abs().max().item()))
