"""Spec to ``nn.Module``."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from attnzoo.arguments import argument_faults
from attnzoo.compose import Residual, Sum
from attnzoo.errors import ArgumentError, BuildError, SpecError
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
    except (ValueError, TypeError) as error:
        message = f"block {name!r}: {error}"
        raise BuildError(message) from error
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
    module = _build(spec, registry)
    object.__setattr__(module, "attnzoo_spec", getattr(module, "attnzoo_spec", spec))
    return module


def _build(spec: Spec, registry: Registry) -> nn.Module:
    if isinstance(spec, BlockSpec):
        registry = registry.pinned(spec.block, spec.version)
    match spec:
        case BlockSpec(weights=str(weights)):
            from attnzoo.weights.resolve import build_with_weights

            return build_with_weights(registry, spec.block, spec.args, weights)
        case BlockSpec():
            try:
                return build_block(registry, spec.block, spec.args)
            except BuildError as error:
                raise BuildError(f"{spec.where}: {error}" if spec.where else str(error)) from error
        case ChainSpec():
            return nn.Sequential(*(_build(n, registry) for n in spec.nodes))
        case SumSpec():
            return Sum([_build(n, registry) for n in spec.nodes])
        case ResidualSpec():
            return Residual(_build(spec.node, registry))
        case _:
            message = "an insert inside another node, expected it at the top of a document"
            raise SpecError([message])


def spec_of(module: nn.Module) -> Spec | None:
    """Return the spec that ``module`` was built from by attnzoo, or None."""
    spec: Spec | None = getattr(module, "attnzoo_spec", None)
    return spec
