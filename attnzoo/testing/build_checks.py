"""Checks of how a block is built, saved, exported and compiled, and of how it refuses wrong arguments."""

import tempfile
import typing
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.arguments import parameters_of
from attnzoo.testing.outputs import first_line
from attnzoo.testing.subject import CheckFailure, Subject, tensors_of

__all__ = ["builds_from_yaml", "compiles", "exports", "meta_device", "save_and_load", "wrong_arguments"]


def builds_from_yaml(subject: Subject) -> None:
    """A spec written as YAML and read back builds the same block."""
    from attnzoo.builder import build_spec
    from attnzoo.registry import Registry, default_registry
    from attnzoo.spec import BlockSpec, write_spec
    from attnzoo.spec_reader import read_spec_text

    registry = default_registry()
    name = subject.id.partition("#")[0]
    if subject.card.cls is not None:
        registry = Registry().with_card(subject.card)
        name = f"local/{subject.card.name}"
    spec = BlockSpec(name, dict(subject.arguments), version=subject.card.version)
    again = read_spec_text(write_spec(spec), "<card example>")
    if again != spec:
        raise CheckFailure(f"the spec {spec} came back from YAML as {again}", mend="use plain YAML values as arguments")
    block = build_spec(again, registry)
    if list(block.state_dict()) != list(subject.build().state_dict()):
        raise CheckFailure(
            "a block built from YAML has other state-dict keys than one built by hand",
            mend="make the keys depend on the arguments alone",
        )


def meta_device(subject: Subject) -> None:
    """Built on the meta device and given tensors by `assign`, the block computes the same."""
    from attnzoo.weights.store import build_on_meta

    block = subject.build()
    try:
        twin = build_on_meta(lambda: subject.cls(**subject.arguments), block.state_dict()).eval()
    except Exception as error:
        raise CheckFailure(
            f"building on the meta device raised {type(error).__name__}: {error}",
            mend="read no tensor values in the constructor",
        ) from error
    _expect_equal(subject, block, twin, "built on the meta device")


def save_and_load(subject: Subject) -> None:
    """Saved and loaded through a self-describing file, the block computes the same bits."""
    from attnzoo.registry import Registry, default_registry
    from attnzoo.spec import BlockSpec
    from attnzoo.weights.store import load_block, save_block

    local = subject.card.cls is not None
    registry = Registry().with_card(subject.card) if local else default_registry()
    name = f"local/{subject.card.name}" if local else subject.id.partition("#")[0]
    block = subject.build()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "block.safetensors"
        save_block(block, path, BlockSpec(name, dict(subject.arguments), version=subject.card.version), registry)
        again = load_block(path, registry).eval()
    _expect_equal(subject, block, again, "saved and loaded")


def _expect_equal(subject: Subject, block: nn.Module, twin: nn.Module, how: str) -> None:
    mend = "keep everything that forward needs in parameters, buffers or arguments"
    for inputs in subject.cases(subject.sizes()):
        ours = tensors_of(block(**inputs))
        try:
            theirs = tensors_of(twin(**inputs))
        except RuntimeError as error:
            found = f"{how}, the block raises {type(error).__name__}: {error}"
            raise CheckFailure(found, input=subject.describe(inputs), mend=mend) from error
        if any(not torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)):
            raise CheckFailure(f"{how}, the block gives other numbers", input=subject.describe(inputs), mend=mend)


def exports(subject: Subject) -> None:
    """`torch.export` takes the block and the exported program gives the same numbers."""
    block, inputs = subject.build(), subject.inputs(subject.sizes())
    try:
        program = torch.export.export(block, (), kwargs=dict(inputs))
        outputs = tensors_of(program.module()(**inputs))
    except Exception as error:
        raise CheckFailure(
            f"torch.export raised {type(error).__name__}: {first_line(error)}",
            input=subject.describe(inputs),
            mend="make no decision in forward that depends on tensor values",
        ) from error
    _expect_near(subject, tensors_of(block(**inputs)), outputs, "exported", inputs)


def compiles(subject: Subject) -> None:
    """`torch.compile(fullgraph=True)` traces forward and backward without a graph break."""
    block, inputs = subject.build(), subject.inputs(subject.sizes())
    torch.compiler.reset()
    try:
        compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = tensors_of(compiled(**inputs))
            floating = [o for o in outputs if o.is_floating_point() and o.requires_grad]
            if floating:
                torch.stack([o.sum() for o in floating]).sum().backward()
    except Exception as error:
        raise CheckFailure(
            f"torch.compile(fullgraph=True) raised {type(error).__name__}: {first_line(error)}",
            input=subject.describe(inputs),
            mend="use a plain form when torch.compiler.is_compiling()",
        ) from error
    _expect_near(subject, tensors_of(block(**inputs)), outputs, "compiled", inputs)


def _expect_near(
    subject: Subject, ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...], how: str, inputs: dict[str, Tensor]
) -> None:
    for a, b in zip(ours, theirs, strict=True):
        if a.is_floating_point() and not torch.allclose(a, b, rtol=1e-4, atol=1e-4):
            raise CheckFailure(
                f"{how}, the block gives other numbers ({(a - b).abs().max().item():.2g} apart)",
                input=subject.describe(inputs),
                mend="look for values that were frozen while tracing",
            )


def wrong_arguments(subject: Subject) -> None:
    """A wrong value is refused by the constructor with a ValueError that names the argument, or works."""
    for name, value in _wrong_values(subject):
        arguments = {**subject.arguments, name: value}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                block: nn.Module = subject.cls(**arguments)
        except ValueError as error:
            if name in str(error):
                continue
            raise _refused_badly(subject, name, value, error) from error
        except Exception as error:
            raise _refused_badly(subject, name, value, error) from error
        _expect_usable(subject, block, name, value, arguments)


def _wrong_values(subject: Subject) -> Iterator[tuple[str, Any]]:
    for name, parameter in parameters_of(subject.cls).items():
        choices = {parameter.annotation, *typing.get_args(parameter.annotation)}
        if bool in choices:
            continue
        if int in choices:
            yield name, 0
            yield name, -3
        if any(typing.get_origin(c) is typing.Literal for c in choices):
            yield name, "no-such-choice"


def _refused_badly(subject: Subject, name: str, value: Any, error: BaseException) -> CheckFailure:
    return CheckFailure(
        f"{name}={value!r} raised {type(error).__name__}: {first_line(error)}",
        mend=f"check it in the constructor: ValueError('{subject.cls.__name__}: {name}={value!r}, expected …')",
    )


def _expect_usable(subject: Subject, block: nn.Module, name: str, value: Any, arguments: dict[str, Any]) -> None:
    other = Subject(subject.id, subject.card, subject.cls, arguments)
    try:
        inputs = other.inputs(other.sizes())
        with torch.no_grad():
            other.call(block.eval(), inputs)
    except Exception as error:
        raise CheckFailure(
            f"{name}={value!r} is accepted by the constructor, then forward raises {type(error).__name__}",
            mend=f"refuse it in the constructor: ValueError('{subject.cls.__name__}: {name}={value!r}, expected …')",
        ) from error
