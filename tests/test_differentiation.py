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
# Blocks whose gradient is, as published, not that of their output: a part of it is taken for a constant.
PARTLY_CONSTANT = {
    "sequence/hard-attention": "in training the choice has the gradient of its probabilities",
    "sequence/performer": "the largest exponent, beside which the floor of the features stands",
    "vision/ema-unit": "the iterations that find the bases",
    "vision/nam": "the share of each weight of the norm",
}
CONSTANT_IN_TRAINING = ("sequence/hard-attention",)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
PARTS = list[dict[str, Tensor]]


def layouts_of(subject: Subject) -> list[str]:
    """Return the names of the layouts in which the inputs of a block can lie."""
    return list(LAYOUTS) if any(len(i.axes) == 4 for i in subject.contract.inputs) else ["contiguous"]


def slope_cases():
    """Yield every block in both modes and all its layouts; all but one case, of an image block two, are slow."""
    for subject in BLOCKS:
        for mode in ("evaluation", "training"):
            for layout in layouts_of(subject):
                quick = (mode, layout) in (("evaluation", "contiguous"), ("training", "channels_last"))
                marks = [] if quick else [pytest.mark.slow]
                yield pytest.param(subject, layout, mode == "training", marks=marks, id=f"{subject.id}-{mode}-{layout}")


def called(subject: Subject, layout: str, training: bool = False):
    """Return the function of a block of parameters and inputs, and these; the first one is given in ``layout``."""
    block = subject.build().double().train(training)
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in subject.inputs(subject.sizes()).items()}
    inputs = {k: v.contiguous(memory_format=LAYOUTS[layout]) if v.dim() == 4 else v for k, v in inputs.items()}
    trained = {k: v for k, v in inputs.items() if v.is_floating_point()}
    parameters = {k: v.detach() for k, v in block.named_parameters()}

    def function(parameters: dict[str, Tensor], trained: dict[str, Tensor]) -> Tensor:
        outputs = tensors_of(functional_call(block, parameters, (), {**inputs, **trained}))
        return sum((weighted(o) for o in outputs if o.is_floating_point()), torch.zeros(()))

    return function, parameters, trained


def weighted(output: Tensor) -> Tensor:
    """Return a sum of squares, each with a weight of its own: a norm at the end of a block fixes the plain sum."""
    return (output.square() * torch.linspace(0.5, 2, output.numel(), dtype=output.dtype).view(output.shape)).sum()


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # torch's own, of unfold under vmap
@pytest.mark.parametrize(
    ("subject", "layout"), [pytest.param(s, k, id=f"{s.id}-{k}") for s in BLOCKS for k in layouts_of(s)]
)
def test_blocks_have_the_same_gradients_by_every_way(subject, layout):
    function, *arguments = called(subject, layout)
    # the fused attention of torch has no gradient of second order and no rule for vmap
    with sdpa_kernel(SDPBackend.MATH):
        plain = flat(gradients(function, arguments))
        close(flat(gradients(function, arguments, create_graph=True)), plain)
        transformed = grad(function, argnums=(0, 1))(*arguments)
        close(flat(transformed), plain)
        stacked = [{k: torch.stack([v, v]) for k, v in part.items()} for part in arguments]
        per_sample = vmap(grad(function, argnums=(0, 1)))(*stacked)
        close([t[1] for t in flat(per_sample)], plain)


@pytest.mark.parametrize(("subject", "layout", "training"), list(slope_cases()))
def test_the_gradient_of_the_gradient_is_its_slope(subject, layout, training):
    function, *arguments = called(subject, layout, training)
    with sdpa_kernel(SDPBackend.MATH):
        if subject.id in NO_SECOND:
            with pytest.raises(RuntimeError, match=NO_SECOND[subject.id]):
                slope_by_autograd(function, arguments)
            return
        found, expected = slope_by_autograd(function, arguments), slope_by_difference(function, arguments)
    if subject.id in PARTLY_CONSTANT and (training or subject.id not in CONSTANT_IN_TRAINING):
        with pytest.raises(AssertionError):
            near(found, expected)
    else:
        near(found, expected)


def gradients(function, arguments: PARTS, create_graph: bool = False, at: PARTS | None = None) -> PARTS:
    """Return the gradients of the arguments, at the leaves ``at`` if given, else at copies of the arguments."""
    leaves = at or [{k: v.clone().requires_grad_() for k, v in part.items()} for part in arguments]
    torch.manual_seed(0)
    found = iter(
        torch.autograd.grad(function(*leaves), flat(leaves), materialize_grads=True, create_graph=create_graph)
    )
    return [{k: next(found) for k in part} for part in leaves]


def direction(arguments: PARTS) -> PARTS:
    """Return one random direction in the space of all parameters and inputs."""
    generator = torch.Generator().manual_seed(7)
    return [
        {k: torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in part.items()} for part in arguments
    ]


def slope_by_autograd(function, arguments: PARTS) -> list[Tensor]:
    """Return the product of the second derivatives with the direction."""
    leaves = [{k: v.clone().requires_grad_() for k, v in part.items()} for part in arguments]
    first = flat(gradients(function, arguments, create_graph=True, at=leaves))
    along = [(t * d).sum() for t, d in zip(first, flat(direction(arguments)), strict=True) if t.requires_grad]
    if not along:
        return [torch.zeros_like(t) for t in first]
    return list(torch.autograd.grad(sum(along), flat(leaves), materialize_grads=True))


def slope_by_difference(function, arguments: PARTS, step: float = 1e-7) -> list[Tensor]:
    """Return how fast the gradients change in the direction, from two places; few ReLUs switch on so short a way."""
    pairs = list(zip(arguments, direction(arguments), strict=True))
    ends = ([{k: v + s * way[k] for k, v in part.items()} for part, way in pairs] for s in (step, -step))
    after, before = (flat(gradients(function, end)) for end in ends)
    return [(a - b) / (2 * step) for a, b in zip(after, before, strict=True)]


def flat(parts) -> list[Tensor]:
    return [t for part in parts for t in part.values()]


def near(found: list[Tensor], expected: list[Tensor]) -> None:
    largest = max(t.abs().max().item() for t in expected if t.numel())
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=2e-7 * largest)


def close(found: list[Tensor], expected: list[Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * (1 + theirs.abs().max().item()))
