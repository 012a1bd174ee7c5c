"""Checks of what a block computes: shapes, batches, gradients, types, layouts, masks, maps."""

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from attnzoo.shape import concrete, split_axes
from attnzoo.testing.subject import CheckFailure, Subject, batch_dim

__all__ = [
    "batch_of_one",
    "channels_last",
    "deterministic",
    "dtypes",
    "gradients",
    "input_unchanged",
    "maps",
    "masks",
    "samples_do_not_mix",
    "shapes",
]


def shapes(subject: Subject) -> None:
    """The declared output shape at odd, non-square and smallest sizes."""
    block = subject.build()
    for wanted in ({"h": 5, "w": 3}, {"h": 8, "w": 13, "l": 5, "m": 3}, {"h": 1, "w": 1, "l": 1, "m": 1, "t": 1}):
        sizes = subject.sizes(**wanted)
        for optional in (False, True):
            inputs = subject.inputs(sizes, optional=optional)
            outputs = _call(subject, block, inputs)
            for axes, output in zip(subject.contract.outputs, outputs, strict=False):
                _expect_shape(subject, output, concrete(axes, sizes), inputs)


def _expect_shape(subject: Subject, output: Tensor, expected: tuple[int, ...], inputs: dict[str, Tensor]) -> None:
    if tuple(output.shape) != expected:
        raise CheckFailure(
            f"the output has shape {tuple(output.shape)}, the card's contract says {expected}",
            input=subject.describe(inputs),
            mend="take sizes from the input instead of constants, or correct `shape:` and `axes:` in the card",
        )


_MEND_FORWARD = "mend forward, or state in `axes:` of the card which sizes are admitted"
_MEND_DTYPE = "make constants with the type of the input (x.new_zeros, dtype=x.dtype), or register them as buffers"


def _call(
    subject: Subject, block: nn.Module, inputs: dict[str, Tensor], mend: str = _MEND_FORWARD
) -> tuple[Tensor, ...]:
    try:
        return subject.call(block, inputs)
    except Exception as error:
        raise CheckFailure(
            f"forward raised {type(error).__name__}: {_first_line(error)}",
            input=subject.describe(inputs),
            mend=mend,
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no text"


def batch_of_one(subject: Subject) -> None:
    """A batch of one sample works in training and in evaluation, there also at the smallest size."""
    for training in (True, False):
        # One pixel of one sample leaves batch norm nothing to normalise over, so training gets a map, evaluation both.
        smallest = {"h": 1, "w": 1, "l": 1, "m": 1, "t": 1}
        for wanted in ({},) if training else ({}, smallest):
            block = subject.build().train(training)
            inputs = subject.inputs(subject.sizes(n=1, **wanted))
            outputs = _call(subject, block, inputs)
            if any(not o.isfinite().all() for o in outputs if o.is_floating_point()):
                raise CheckFailure(
                    f"a batch of one in {'training' if training else 'evaluation'} gives numbers that are not finite",
                    input=subject.describe(inputs),
                    mend="look for a variance or norm over one element",
                )


def samples_do_not_mix(subject: Subject) -> None:
    """In evaluation a sample's output does not depend on what else is in the batch."""
    if all(batch_dim(i.axes) is None for i in subject.contract.inputs):
        return
    block, sizes = subject.build(), subject.sizes(n=3)
    inputs = subject.inputs(sizes)
    together = _call(subject, block, inputs)
    for sample in range(3):
        alone = _call(subject, block, subject.batch_slice(inputs, sizes, sample))
        for index, output in enumerate(together):
            if index >= len(subject.contract.outputs):
                continue
            part = subject.output_slice(output, index, sizes, sample)
            if part is not None and not _close(part, alone[index], 1e-4):
                raise CheckFailure(
                    f"sample {sample} of a batch changes by {_difference(part, alone[index]):.2g} when it is alone",
                    input=subject.describe(inputs),
                    mend="look for a softmax, mean or norm over the batch axis",
                )


def gradients(subject: Subject) -> None:
    """Every parameter gets a finite gradient, in training mode, and the input gets one too."""
    block, inputs = subject.build().train(), subject.inputs(subject.sizes(n=4), optional=True)
    leaves = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in inputs.items()}
    outputs = [o for o in _call(subject, block, leaves) if o.is_floating_point()]
    try:
        sum((o * torch.randn_like(o)).sum() for o in outputs).backward()  # type: ignore[union-attr]
    except RuntimeError as error:
        raise CheckFailure(
            f"backward raised {_first_line(error)}",
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


def input_unchanged(subject: Subject) -> None:
    """Forward does not write to its inputs, in training or evaluation, with and without gradients."""
    for training in (True, False):
        block, inputs = subject.build().train(training), subject.inputs(subject.sizes(), optional=True)
        before = {k: v.clone() for k, v in inputs.items()}
        with torch.set_grad_enabled(training):
            _call(subject, block, inputs)
        for name, tensor in inputs.items():
            if not torch.equal(tensor, before[name]):
                raise CheckFailure(
                    f"forward changed its input {name!r}",
                    input=subject.describe(inputs),
                    mend="work on a new tensor; no in-place operation on the input or a view of it",
                )


def deterministic(subject: Subject) -> None:
    """The same input gives the same bits twice in evaluation, and the same state-dict keys after."""
    block, inputs = subject.build(), subject.inputs(subject.sizes())
    keys = list(block.state_dict())
    first, second = _call(subject, block, inputs), _call(subject, block, inputs)
    if any(not torch.equal(a, b) for a, b in zip(first, second, strict=True)):
        raise CheckFailure(
            "two evaluations of one input differ",
            input=subject.describe(inputs),
            mend="draw no random numbers in evaluation, and keep no state between calls",
        )
    if list(block.state_dict()) != keys:
        raise CheckFailure(
            "forward changed the keys of the state dict",
            mend="create all parameters and buffers in the constructor",
        )


def dtypes(subject: Subject) -> None:
    """float64 and bfloat16 give their own type, float16 autocast gives finite numbers."""
    for dtype in (torch.float64, torch.bfloat16):
        block, inputs = subject.build().to(dtype), _cast(subject.inputs(subject.sizes()), dtype)
        for output in _call(subject, block, inputs, _MEND_DTYPE):
            if output.is_floating_point() and output.dtype is not dtype:
                raise CheckFailure(
                    f"{dtype} in, {output.dtype} out",
                    input=subject.describe(inputs),
                    mend=_MEND_DTYPE,
                )
    block, inputs = subject.build(), subject.inputs(subject.sizes())
    with torch.autocast("cpu", dtype=torch.float16), torch.no_grad(), warnings.catch_warnings():
        # torch only says here that it takes the slower path for a norm whose weight is float32.
        warnings.filterwarnings("ignore", "Mismatch dtype between input and weight", UserWarning)
        outputs = _call(subject, block, inputs)
    if any(not o.isfinite().all() for o in outputs if o.is_floating_point()):
        raise CheckFailure(
            "float16 autocast gives numbers that are not finite",
            input=subject.describe(inputs),
            mend="do sums and exponentials in float32",
        )


def _cast(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}


def channels_last(subject: Subject) -> None:
    """A channels_last input gives the same numbers, and a map of the same shape stays channels_last."""
    block, inputs = subject.build(), subject.inputs(subject.sizes(h=6, w=5))
    images = {k: v.to(memory_format=torch.channels_last) for k, v in inputs.items() if v.ndim == 4}
    if not images:
        return
    expected = _call(subject, block, inputs)
    outputs = _call(subject, block, {**inputs, **images})
    first = next(iter(images.values()))
    channels_first = any(i.axes[1:2] == ("c",) for i in subject.contract.inputs)
    for output, wanted in zip(outputs, expected, strict=True):
        if not _close(output, wanted, 1e-4):
            raise CheckFailure(
                f"channels_last changes the numbers by {_difference(output, wanted):.2g}",
                input=subject.describe(inputs),
                mend="look for a .view or .reshape that assumes contiguous memory",
            )
        same_map = channels_first and output.shape == first.shape
        if same_map and not output.is_contiguous(memory_format=torch.channels_last):
            raise CheckFailure(
                "a channels_last input gives an output in another layout",
                input=subject.describe(inputs),
                mend="avoid .contiguous() and reshapes of the whole map, or restore the layout at the end",
            )


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
    before, after = _call(subject, block, inputs)[0], _call(subject, block, changed)[0]
    if hidden_axis in subject.contract.outputs[0]:
        dim = subject.contract.outputs[0].index(hidden_axis)
        before, after = (t.narrow(dim, 0, t.shape[dim] - 1) for t in (before, after))
    if not _close(before, after, 1e-5):
        raise CheckFailure(
            f"a masked key changes the output by {_difference(before, after):.2g}",
            input=subject.describe(inputs),
            mend="True means may attend: give hidden keys the score minus infinity before the softmax",
        )
    inputs[key] = torch.zeros_like(inputs[key])
    if not _call(subject, block, inputs)[0].isfinite().all():
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
        _expect_shape(subject, found[name], concrete(split_axes(axes), sizes), inputs)
        if not found[name].isfinite().all():
            raise CheckFailure(f"map {name!r} is not finite", input=subject.describe(inputs), mend="mend attention()")


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return a.shape == b.shape and _difference(a, b) <= tolerance


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    if not a.numel():
        return 0.0
    scale = max(1.0, b.detach().double().abs().max().item())
    return (a.detach().double() - b.detach().double()).abs().max().item() / scale
