"""Checks of attention: what a mask hides changes nothing, and maps are what the card declares."""

import torch
from torch import Tensor

from attnzoo.shape import concrete, split_axes
from attnzoo.testing.outputs import call_block, close, difference, expect_shape
from attnzoo.testing.subject import CheckFailure, Subject

__all__ = ["maps", "masks"]


def masks(subject: Subject) -> None:
    """A key that the mask hides changes nothing, and a row without any key gives finite numbers."""
    names = {i.name: i for i in subject.contract.inputs}
    if "mask" not in names or names["mask"].axes[0] != "n" or len(names["mask"].axes) != 2:
        return
    block, sizes = subject.build(), subject.sizes()
    hidden_axis = names["mask"].axes[1]
    inputs = subject.inputs(sizes, optional=True)
    key = next(k for k in inputs if k.startswith("mask"))
    inputs[key] = torch.ones_like(inputs[key])
    inputs[key][:, -1] = False
    changed = {k: _disturb(subject, k, v, hidden_axis) for k, v in inputs.items()}
    before, after = call_block(subject, block, inputs)[0], call_block(subject, block, changed)[0]
    if hidden_axis in subject.contract.outputs[0]:
        dim = subject.contract.outputs[0].index(hidden_axis)
        before, after = (t.narrow(dim, 0, t.shape[dim] - 1) for t in (before, after))
    if not close(before, after, 1e-5):
        raise CheckFailure(
            f"a masked key changes the output by {difference(before, after):.2g}",
            input=subject.describe(inputs),
            mend="True means may attend: give hidden keys the score minus infinity before the softmax",
        )
    inputs[key] = torch.zeros_like(inputs[key])
    if not call_block(subject, block, inputs)[0].isfinite().all():
        raise CheckFailure(
            "a row whose keys are all masked gives numbers that are not finite",
            input=subject.describe(inputs),
            mend="give such a row zeros",
        )


def _disturb(subject: Subject, name: str, tensor: Tensor, axis: str) -> Tensor:
    spec = next((i for i in subject.contract.inputs if i.name and name.startswith(i.name)), None)
    if spec is None or not tensor.is_floating_point() or axis not in spec.axes:
        return tensor
    changed = tensor.clone()
    changed.select(spec.axes.index(axis), -1).add_(5.0)
    return changed


def maps(subject: Subject) -> None:
    """`attention` returns the maps that the card declares, in their shapes, and they are finite."""
    block = subject.build()
    if not hasattr(block, "attention"):
        if subject.card.maps:
            raise CheckFailure(
                f"the card declares maps {', '.join(subject.card.maps)}, the block has no attention method",
                mend="add attention(...), or remove `maps:` from the card",
            )
        return
    sizes = subject.sizes()
    inputs = subject.inputs(sizes)
    with torch.no_grad():
        found = block.attention(**inputs)  # type: ignore[operator]
    if set(found) != set(subject.card.maps):
        raise CheckFailure(
            f"attention() returns {sorted(found)}, the card declares {sorted(subject.card.maps)}",
            input=subject.describe(inputs),
            mend="make both the same",
        )
    for name, axes in subject.card.maps.items():
        expect_shape(subject, found[name], concrete(split_axes(axes), sizes), inputs)
        if not found[name].isfinite().all():
            raise CheckFailure(f"map {name!r} is not finite", input=subject.describe(inputs), mend="mend attention()")
