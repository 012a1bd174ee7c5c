"""Checks of training: every parameter has an effect and a finite gradient, and no layer hides from the optimiser."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from attnzoo.testing.outputs import call_block, first_line
from attnzoo.testing.subject import CheckFailure, Subject

__all__ = ["gradients", "silent_parameters"]

_DRAWS = 4  # of weights and inputs, until a parameter counts as without effect: a ReLU may switch all units off in one
_ROUNDING = 1e-10  # of the largest gradient: what a softmax cancels leaves 1e-15 in float64, other gradients are near 1


def gradients(subject: Subject) -> None:
    """Outputs vary; each parameter gets a finite gradient in training and, there or in evaluation, one beside zero."""
    block, inputs = subject.build().train(), subject.inputs(subject.sizes(n=4), optional=True)
    _differentiate(subject, block, inputs)
    if hidden := _hidden_layers(block):
        raise CheckFailure(
            f"the layers in the Python list, tuple or dict {' and '.join(map(repr, hidden))} are not registered: "
            "they are not trained, saved or moved to a device",
            mend="keep them in nn.ModuleList, nn.ModuleDict or nn.Sequential",
        )
    wanted = {n: p for n, p in block.named_parameters() if subject.needs_gradient(n)}
    for name, parameter in wanted.items():
        _expect_gradient(subject, name, parameter, inputs)
    _expect_varied_outputs(subject)
    _expect_effects(subject, list(wanted), inputs)


def silent_parameters(subject: Subject, inputs: dict[str, Tensor], *, seed: int, training: bool) -> set[str]:
    """Return the parameters that change no output: their gradients are zero, or only rounding beside the largest."""
    block, rounding = subject.build(seed=seed).train(training).double(), _ROUNDING
    double = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    try:
        found = _differentiate(subject, block, double)
    except CheckFailure:
        # A block without float64, of which other checks report. In float32 only zeros are told from small gradients.
        block, rounding = subject.build(seed=seed).train(training), 0.0
        found = _differentiate(subject, block, inputs)
    sizes = {n: 0.0 if p.grad is None else p.grad.abs().max().item() for n, p in block.named_parameters() if p.numel()}
    largest = max([*sizes.values(), *(g.abs().max().item() for g in found if g.numel())], default=0.0)
    return {name for name, size in sizes.items() if size <= rounding * largest}


def _differentiate(subject: Subject, block: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Give the parameters their gradients for a random sum of the outputs; return those of the inputs."""
    leaves = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in inputs.items()}
    outputs = [o for o in call_block(subject, block, leaves) if o.is_floating_point()]
    try:
        sum((o * torch.randn_like(o)).sum() for o in outputs).backward()  # type: ignore[union-attr]
    except RuntimeError as error:
        raise CheckFailure(
            f"backward raised {first_line(error)}",
            input=subject.describe(inputs),
            mend="look for tensors that are changed in place after they were used",
        ) from error
    return [v.grad for v in leaves.values() if v.grad is not None]


def _hidden_layers(block: nn.Module) -> list[str]:
    """Return the attributes whose lists, tuples or dicts hold modules or parameters that are registered nowhere."""
    known: set[int] = {id(m) for m in block.modules()} | {id(p) for p in block.parameters()}
    found = []
    for path, module in block.named_modules():
        for name, value in vars(module).items():
            if not name.startswith("_") and any(id(item) not in known for item in _layers_in(value)):
                found.append(f"{path}.{name}" if path else name)
    return found


def _layers_in(value: object, depth: int = 3) -> Iterator[object]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | set) else ()
    for item in items:
        if isinstance(item, nn.Parameter) or (isinstance(item, nn.Module) and any(True for _ in item.parameters())):
            yield item
        elif depth:
            yield from _layers_in(item, depth - 1)


def _expect_gradient(subject: Subject, name: str, parameter: nn.Parameter, inputs: dict[str, Tensor]) -> None:
    if parameter.grad is None:
        raise CheckFailure(
            f"parameter {name!r} gets no gradient",
            input=subject.describe(inputs),
            mend="use it in forward, or do not create it",
        )
    if not parameter.grad.isfinite().all():
        raise CheckFailure(
            f"the gradient of parameter {name!r} is not finite",
            input=subject.describe(inputs),
            mend="look for a division by zero, the square root of zero, or a softmax over nothing",
        )


def _expect_varied_outputs(subject: Subject) -> None:
    """Fail if an output is one number everywhere: the checks that compare numbers would compare nothing."""
    inputs = subject.inputs(subject.sizes())
    outputs = call_block(subject, subject.build(), inputs)
    for index, output in enumerate(outputs):
        name = f"output_{index}" if len(outputs) > 1 else "output"
        if subject.needs_gradient(name) and _is_constant(output):
            raise CheckFailure(
                f"{name} is {output.max():.3g} everywhere, so the checks that compare numbers compare nothing",
                input=subject.describe(inputs),
                mend="give the card an example whose output depends on the input; if none can, say why in the card: "
                f"exempt: {{gradients of {name}: why}}",
            )


def _is_constant(output: Tensor) -> bool:
    if not output.is_floating_point() or not output.numel() or output.min() != output.max():
        return False
    return output.numel() > 1 or not output.any()


def _expect_effects(subject: Subject, wanted: list[str], inputs: dict[str, Tensor]) -> None:
    """Fail if one of the parameters ``wanted`` changes no output, whatever is drawn."""
    for seed in range(_DRAWS):
        for training in (True, False):
            if not wanted:
                return
            drawn = subject.inputs(subject.sizes(n=4), seed=seed + 1, optional=True)
            silent = silent_parameters(subject, drawn, seed=seed, training=training)
            wanted = [name for name in wanted if name in silent]
    if wanted:
        raise CheckFailure(
            f"no output depends on parameter {' or '.join(map(repr, wanted))}: "
            "the gradient is zero, or only rounding, in training and in evaluation",
            input=subject.describe(inputs),
            mend="use it in forward, or do not create it; if it has an effect for other arguments, give the card an "
            "example with them, or with more channels; if a softmax or norm cancels it, say so in the card: "
            f"exempt: {{gradients of {wanted[0]}: why}}",
        )
