"""Checks of what a block computes: shapes, batches, types, memory layouts, and that it leaves its input alone."""

import warnings

import torch
from torch import Tensor, nn

from attnzoo.shape import concrete
from attnzoo.testing.outputs import call_block, close, difference, expect_shape
from attnzoo.testing.subject import CheckFailure, Subject, batch_dim

__all__ = [
    "batch_of_one",
    "bfloat16",
    "channels_last",
    "deterministic",
    "float16_autocast",
    "float64",
    "input_unchanged",
    "samples_do_not_mix",
    "shapes",
]

_MEND_DTYPE = "make constants with the type of the input (x.new_zeros, dtype=x.dtype), or register them as buffers"


def shapes(subject: Subject) -> None:
    """The declared output shape at odd, non-square and smallest sizes."""
    block = subject.build()
    for wanted in ({"h": 5, "w": 3}, {"h": 8, "w": 13, "l": 5, "m": 3}, {"h": 1, "w": 1, "l": 1, "m": 1, "t": 1}):
        sizes = subject.sizes(**wanted)
        for inputs in subject.cases(sizes):
            outputs = call_block(subject, block, inputs)
            for axes, output in zip(subject.contract.outputs, outputs, strict=False):
                expect_shape(subject, output, concrete(axes, sizes), inputs)


def batch_of_one(subject: Subject) -> None:
    """A batch of one sample works in training and in evaluation, there also at the smallest size."""
    for training in (True, False):
        # One pixel of one sample leaves batch norm nothing to normalise over, so training gets a map, evaluation both.
        smallest = {"h": 1, "w": 1, "l": 1, "m": 1, "t": 1}
        for wanted in ({},) if training else ({}, smallest):
            for inputs in subject.cases(subject.sizes(n=1, **wanted)):
                _expect_finite(
                    subject,
                    call_block(subject, subject.build().train(training), inputs),
                    f"a batch of one in {'training' if training else 'evaluation'}",
                    inputs,
                    "look for a variance or norm over one element",
                )


def _expect_finite(
    subject: Subject, outputs: tuple[Tensor, ...], what: str, inputs: dict[str, Tensor], mend: str
) -> None:
    if any(not o.isfinite().all() for o in outputs if o.is_floating_point()):
        found = f"{what} gives numbers that are not finite"
        raise CheckFailure(found, input=subject.describe(inputs), mend=mend)


def samples_do_not_mix(subject: Subject) -> None:
    """In evaluation a sample's output does not depend on what else is in the batch."""
    if all(batch_dim(i.axes) is None for i in subject.contract.inputs):
        return
    block, sizes = subject.build(), subject.sizes(n=3)
    for inputs in subject.cases(sizes):
        _expect_no_mixing(subject, block, inputs, sizes)


def _expect_no_mixing(subject: Subject, block: nn.Module, inputs: dict[str, Tensor], sizes: dict[str, int]) -> None:
    together = call_block(subject, block, inputs)
    for sample in range(3):
        alone = call_block(subject, block, subject.batch_slice(inputs, sizes, sample))
        for index, output in enumerate(together):
            if index >= len(subject.contract.outputs):
                continue
            part = subject.output_slice(output, index, sizes, sample)
            if part is not None and not close(part, alone[index], 1e-4):
                raise CheckFailure(
                    f"sample {sample} of a batch changes by {difference(part, alone[index]):.2g} when it is alone",
                    input=subject.describe(inputs),
                    mend="look for a softmax, mean or norm over the batch axis",
                )


def input_unchanged(subject: Subject) -> None:
    """Forward does not write to its inputs, in training or evaluation, with and without gradients, in any layout."""
    inputs = subject.inputs(subject.sizes(), optional=True)
    images = {k: v.contiguous(memory_format=torch.channels_last) for k, v in inputs.items() if v.ndim == 4}
    layouts = [("", inputs)]
    if images:
        layouts.append((" with a channels_last map", {**inputs, **images}))
    # Blocks choose their in-place forms by mode, by whether gradients are wanted, and by the layout of the map.
    for training, mode in ((True, ""), (False, " in evaluation")):
        block = subject.build().train(training)
        for gradients, tracking in ((True, ""), (False, " under no_grad")):
            for layout, given in layouts:
                with torch.set_grad_enabled(gradients):
                    _expect_unchanged(subject, block, given, mode + tracking + layout)


def _expect_unchanged(subject: Subject, block: nn.Module, inputs: dict[str, Tensor], how: str) -> None:
    before = {k: v.clone() for k, v in inputs.items()}
    call_block(subject, block, inputs)
    for name, tensor in inputs.items():
        if not torch.equal(tensor, before[name]):
            raise CheckFailure(
                f"forward changed its input {name!r}{how}",
                input=subject.describe(inputs),
                mend="work on a new tensor; no in-place operation on the input or a view of it",
            )


def deterministic(subject: Subject) -> None:
    """The same input gives the same bits twice in evaluation, and the same state-dict keys after."""
    block = subject.build()
    keys = list(block.state_dict())
    for inputs in subject.cases(subject.sizes()):
        first, second = call_block(subject, block, inputs), call_block(subject, block, inputs)
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


def float64(subject: Subject) -> None:
    """A block and inputs in float64 give float64."""
    _expect_own_type(subject, torch.float64)


def bfloat16(subject: Subject) -> None:
    """A block and inputs in bfloat16 give bfloat16."""
    _expect_own_type(subject, torch.bfloat16)


def _expect_own_type(subject: Subject, dtype: torch.dtype) -> None:
    block = subject.build().to(dtype)
    for inputs in subject.cases(subject.sizes()):
        cast = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
        for output in call_block(subject, block, cast, _MEND_DTYPE):
            if output.is_floating_point() and output.dtype is not dtype:
                found = f"{dtype} in, {output.dtype} out"
                raise CheckFailure(found, input=subject.describe(cast), mend=_MEND_DTYPE)


def float16_autocast(subject: Subject) -> None:
    """Under float16 autocast the numbers are finite."""
    block = subject.build()
    for inputs in subject.cases(subject.sizes()):
        with torch.autocast("cpu", dtype=torch.float16), torch.no_grad(), warnings.catch_warnings():
            # torch only says here that it takes the slower path for a norm whose weight is float32.
            warnings.filterwarnings("ignore", "Mismatch dtype between input and weight", UserWarning)
            outputs = call_block(subject, block, inputs)
        _expect_finite(subject, outputs, "float16 autocast", inputs, "do sums and exponentials in float32")


def channels_last(subject: Subject) -> None:
    """A channels_last input gives the same numbers, and a map of the same shape stays channels_last."""
    block = subject.build()
    for inputs in subject.cases(subject.sizes(h=6, w=5)):
        _expect_layout_kept(subject, block, inputs)


def _expect_layout_kept(subject: Subject, block: nn.Module, inputs: dict[str, Tensor]) -> None:
    images = {k: v.to(memory_format=torch.channels_last) for k, v in inputs.items() if v.ndim == 4}
    if not images:
        return
    expected = call_block(subject, block, inputs)
    outputs = call_block(subject, block, {**inputs, **images})
    first = next(iter(images.values()))
    channels_first = any(i.axes[1:2] == ("c",) for i in subject.contract.inputs)
    for output, wanted in zip(outputs, expected, strict=True):
        if not close(output, wanted, 1e-4):
            raise CheckFailure(
                f"channels_last changes the numbers by {difference(output, wanted):.2g}",
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
