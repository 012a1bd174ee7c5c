"""Build the block that `scan` found at a place, with its tensors and with arguments that the tensors cannot tell."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from attnzoo.arguments import parameters_of
from attnzoo.errors import LoadError, NameNotFound, did_you_mean
from attnzoo.registry import Registry
from attnzoo.weights.checkpoint import Checkpoint
from attnzoo.weights.foreign import build_foreign, meta_block
from attnzoo.weights.scan import Found, Reading, Unsolved
from attnzoo.weights.solve import solve

__all__ = ["cut_out", "solve_with"]


def cut_out(
    checkpoint: Checkpoint,
    found: Found,
    registry: Registry,
    *,
    block: str | None = None,
    dialect: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, Reading, dict[str, Any]]:
    """Build the block at a place with its tensors. Returns it, the reading used, and the arguments that were assumed.

    Args:
        checkpoint: The checkpoint.
        found: A place of it.
        registry: Where blocks are looked up.
        block: Which of the readings, if there are several.
        dialect: Which of the dialects, if they differ.
        arguments: Arguments that the tensors cannot tell.

    Raises:
        LoadError: Several readings fit and none was chosen, or a number that tensors cannot tell was not given.
        ArgumentError, BuildError: A value that was given is none that the block takes.
        NameNotFound: The chosen block or dialect does not fit there.
    """
    reading = _chosen(found, registry, block, dialect)
    given = dict(arguments or {})
    where = f"{checkpoint.path} at {found.site!r}"
    _expect_known(reading, given, where)
    if given:
        reading = _solved_again(checkpoint, found, registry, reading, given)
    needed = [k for k in reading.untold if k not in given and _is_needed(registry, reading, k)]
    if needed:
        message = (
            f"{where}: tensors cannot tell {', '.join(map(repr, needed))} of {reading.block}; "
            f"give --arg {needed[0]}=… (in Python: {needed[0]}=…)"
        )
        raise LoadError(message)
    assumed = {k: v for k, v in reading.untold.items() if k not in given}
    args = {**reading.args, **assumed, **given}
    tensors = _tensors(checkpoint, found)
    return build_foreign(registry, reading.block, reading.dialects[0], args, tensors, where), reading, assumed


def _expect_known(reading: Reading, given: Mapping[str, Any], where: str) -> None:
    unknown = [k for k in given if k not in reading.args and k not in reading.untold]
    if unknown:
        known = [*reading.untold, *reading.args]
        near, untold = did_you_mean(unknown[0], known), ", ".join(reading.untold) or "none"
        message = f"{where}: no argument {unknown[0]!r} to give{near}; untold are: {untold}"
        raise NameNotFound(message)


def _solved_again(
    checkpoint: Checkpoint, found: Found, registry: Registry, reading: Reading, given: Mapping[str, Any]
) -> Reading:
    """Return the reading with what follows from the arguments that were given."""
    if found.graph:
        return reading
    entry = registry.find(reading.block)
    shapes = {k: v.shape for k, v in checkpoint.below(found.site).items()}
    for name in reading.dialects:
        solution = solve(entry, entry.card.dialects[name], shapes, given={**_constants(reading, given), **given})
        if solution is not None:
            args = {k: v for k, v in solution.args.items() if k not in given}
            untold = {k: v for k, v in reading.untold.items() if k not in given and k not in args}
            return Reading(reading.block, (name,), args, untold | dict(solution.untold))
    meta_block(registry, reading.block, {**reading.args, **reading.untold, **given})  # refuses what is no value at all
    values = ", ".join(f"{k}={v!r}" for k, v in given.items())
    place = f"{checkpoint.path} at {found.site!r}"
    message = f"{place}: {reading.block} with {values} does not have these tensors, expected {dict(reading.args)}"
    raise LoadError(message)


def _constants(reading: Reading, given: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in reading.args.items() if k not in given}


def _tensors(checkpoint: Checkpoint, found: Found) -> dict[str, Any]:
    if not found.graph:
        return checkpoint.read_below(found.site)
    tensors = checkpoint.read(found.graph.values())
    return {ours: tensors[theirs] for ours, theirs in found.graph.items()}


def _is_needed(registry: Registry, reading: Reading, name: str) -> bool:
    """Say whether whole numbers that tensors cannot tell have no default, or one that is a mere stand-in."""
    parameter = parameters_of(registry.find(reading.block).card.load_class())[name]
    return parameter.default is parameter.empty or (
        type(reading.untold[name]) in (int, tuple) and reading.untold[name] != parameter.default
    )


def _chosen(found: Found, registry: Registry, block: str | None, dialect: str | None) -> Reading:
    readings = [r for r in found.readings if block is None or r.block == registry.find(block).id]
    if dialect is not None:
        readings = [Reading(r.block, (dialect,), r.args, r.untold) for r in readings if dialect in r.dialects]
    choices = "; ".join(f"{r.block} ({', '.join(r.dialects)}) {dict(r.args)}" for r in found.readings)
    if not readings:
        message = (
            f"{found.site!r}: not {block or 'a block'} in the dialect {dialect or 'of any kind'}; it fits: {choices}"
        )
        raise NameNotFound(message)
    if len(readings) > 1:
        message = f"{found.site!r}: {len(readings)} readings fit, expected one; give --block or --dialect: {choices}"
        raise LoadError(message)
    return readings[0]


def solve_with(checkpoint: Checkpoint, left: Unsolved, registry: Registry, given: Mapping[str, Any]) -> Found:
    """Return a place that `scan` could not solve, solved with the arguments that are ``given``.

    Raises:
        LoadError: It is not solved with them either; the text has the reasons, and for each block the arguments that
            are still to be given.
    """
    tensors = checkpoint.below(left.site)
    shapes = {k: v.shape for k, v in tensors.items()}
    readings: list[Reading] = []
    reasons: list[str] = []
    for (block, name), reason in zip(left.dialects, left.reasons, strict=True):
        entry = registry.find(block)
        arguments = parameters_of(entry.card.load_class())
        fitting = given.keys() <= arguments.keys()
        solution = solve(entry, entry.card.dialects[name], shapes, given=given) if given and fitting else None
        if solution is not None:
            untold = {k: v for k, v in solution.untold.items() if k not in given}
            readings.append(Reading(block, (name,), {**solution.args, **given}, untold))
        reasons.append(f"{reason}; its arguments are: {', '.join(arguments)}")
    if not readings:
        values = ", ".join(f"{k}={v!r}" for k, v in given.items())
        what = f"with {values} still not solved" if given else "not solved"
        message = (
            f"{checkpoint.path} at {left.site!r}: {what}, expected a block; give --arg NAME=VALUE for what you know"
        )
        raise LoadError(f"{message}: {'; '.join(reasons)}")
    types = "+".join(sorted({v.dtype for v in tensors.values()}))
    return Found(left.site, tuple(readings), len(tensors), types)
