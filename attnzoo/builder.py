"""Spec to ``nn.Module``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from attnzoo.arguments import argument_faults
from attnzoo.compose import Residual, Sum
from attnzoo.errors import ArgumentError, AttnZooError, BuildError, NameNotFound, SpecError
from attnzoo.registry import Registry
from attnzoo.spec import BlockSpec, ChainSpec, InsertSpec, ResidualSpec, Spec, SumSpec, check_spec

__all__ = ["build_block", "build_spec", "spec_of"]


def build_block(registry: Registry, name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build one block by name.

    Raises:
        NameNotFound, AmbiguousName: The name is not that of one block.
        ArgumentError: An argument is unknown, missing or of the wrong type.
        BuildError: The constructor refused the arguments.
    """
    entry = registry.find(name)
    cls = entry.card.load_class()
    if faults := argument_faults(name, cls, arguments):
        raise ArgumentError("\n".join(faults.values()))
    try:
        block: nn.Module = cls(**arguments)
    except AttnZooError:
        raise
    except Exception as error:
        # Sizes that torch cannot make and slips of a third party's constructor come as errors of every class.
        kind = "" if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: "
        message = f"block {name!r}: {kind}{error}"
        raise BuildError(message) from error
    if not isinstance(block, nn.Module):
        message = f"block {name!r}: its class made a {type(block).__name__}, expected an nn.Module"
        raise BuildError(message)
    object.__setattr__(block, "attnzoo_spec", BlockSpec(entry.id, dict(arguments), version=entry.card.version))
    return block


def build_spec(spec: Spec, registry: Registry) -> nn.Module:
    """Build what a spec names. All its blocks are checked before the first is built.

    Raises:
        SpecError: Names or arguments do not fit (every fault), or the spec is an ``insert``, which needs a host.
    """
    if isinstance(spec, InsertSpec):
        message = f"{spec.where or 'spec'}: an insert needs a host; use attnzoo.insert(model, spec)"
        raise SpecError([message])
    check_spec(spec, registry)
    return _build(spec, registry)


def _build(spec: Spec, registry: Registry) -> nn.Module:
    """Build a node. Its ``attnzoo_spec`` has full ids, versions, and the arguments that came with weights."""
    match spec:
        case BlockSpec():
            return _build_one(spec, registry.pinned(spec.block, spec.version))
        case ChainSpec() | SumSpec():
            modules = [_build(n, registry) for n in spec.nodes]
            module: nn.Module = nn.Sequential(*modules) if isinstance(spec, ChainSpec) else Sum(modules)
            full: Spec = replace(spec, nodes=tuple(spec_of(m) or n for m, n in zip(modules, spec.nodes, strict=True)))
        case ResidualSpec():
            module = Residual(inner := _build(spec.node, registry))
            full = replace(spec, node=spec_of(inner) or spec.node)
        case _:
            message = "an insert inside another node, expected it at the top of a document"
            raise SpecError([message])
    object.__setattr__(module, "attnzoo_spec", full)
    return module


def _build_one(spec: BlockSpec, registry: Registry) -> nn.Module:
    try:
        if spec.weights is None:
            return build_block(registry, spec.block, spec.args)
        from attnzoo.weights.resolve import build_with_weights

        return build_with_weights(registry, spec.block, spec.args, spec.weights)
    except (BuildError, NameNotFound, ArgumentError) as error:
        raise type(error)(f"{spec.where}: {error}" if spec.where else str(error)) from error


def spec_of(module: nn.Module) -> Spec | None:
    """Return the spec that ``module`` was built from by attnzoo, or None."""
    spec: Spec | None = getattr(module, "attnzoo_spec", None)
    return spec
