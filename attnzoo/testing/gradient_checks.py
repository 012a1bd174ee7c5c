"""Checks of training: every parameter gets a finite gradient, and no layer is hidden from the optimiser."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from attnzoo.testing.outputs import call_block, first_line
from attnzoo.testing.subject import CheckFailure, Subject

__all__ = ["gradients"]


def gradients(subject: Subject) -> None:
    """Every parameter gets a finite gradient, in training mode, and the input gets one too."""
    block, inputs = subject.build().train(), subject.inputs(subject.sizes(n=4), optional=True)
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
    if hidden := _hidden_layers(block):
        raise CheckFailure(
            f"the layers in the Python list, tuple or dict {' and '.join(map(repr, hidden))} are not registered: "
            "they are not trained, saved or moved to a device",
            mend="keep them in nn.ModuleList, nn.ModuleDict or nn.Sequential",
        )
    for name, parameter in block.named_parameters():
        _expect_gradient(subject, name, parameter, inputs)


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
