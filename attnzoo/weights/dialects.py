"""Dialects: translate another library's tensors into a block's own, and back.

A dialect is data in a card (``docs/reference/cards.md``). `translation` expands its tensor table for one block into
concrete steps, which `to_ours` and `to_theirs` walk in the two directions. Arguments are in `binding`.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import einops
import torch
from torch import Tensor

from attnzoo.card import Dialect
from attnzoo.errors import DialectError, did_you_mean
from attnzoo.expression import evaluate

__all__ = ["Step", "is_counter", "their_shapes", "to_ours", "to_theirs", "translation"]


@dataclass(frozen=True)
class Step:
    """One line of a tensor table, expanded: ``theirs`` (joined) → ``pattern`` → split into ``ours``."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    pattern: str | None
    axes: Mapping[str, int]
    our_sizes: tuple[int, ...]  # first-axis sizes of ours, for splitting
    their_sizes: tuple[int, ...] | None  # first-axis sizes of theirs, for splitting on the way back; None: equal
    stacked: bool  # ours have one axis less than the tensor they are taken from
    magnitude: float | None  # what their layer adds to the magnitude of theirs, which ours is; None: ours is theirs


@dataclass(frozen=True)
class _Line:
    """The right side of a line of a tensor table."""

    theirs: str
    sizes: Sequence[str] | None = None
    magnitude: float | None = None


def translation(dialect: Dialect, arguments: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> list[Step]:
    """Expand the dialect's tensor table for a block with these ``arguments`` and tensor ``shapes``.

    Raises:
        DialectError: A tensor of the block is not in the table, or two lines claim it.
    """
    steps: list[Step] = []
    claimed: dict[str, str] = {}
    axes = _axes(dialect, arguments)
    for left, right in dialect.tensors.items():
        line = _alternative(dialect, left, right, arguments)
        if line is None:
            continue
        for groups in _matches(left, shapes):
            filled = replace(line, theirs=_fill(line.theirs, groups))
            step = _step(dialect, _fill(left, groups), filled, axes, arguments, shapes)
            for key in step.ours:
                if key in claimed:
                    message = f"dialect {dialect.name!r}: tensors: {left!r} and {claimed[key]!r} both give {key!r}"
                    raise DialectError(message)
                claimed[key] = left
            steps.append(step)
    missing = [k for k in shapes if k not in claimed and not _any_match(k, dialect.absent) and not is_counter(k)]
    if missing:
        message = f"dialect {dialect.name!r}: tensors: no line gives {', '.join(map(repr, missing))}"
        raise DialectError(message)
    return steps


def is_counter(key: str) -> bool:
    """Say whether ``key`` is a batch-norm step counter, which files may leave out."""
    return key.endswith("num_batches_tracked")


def to_ours(
    steps: Iterable[Step], theirs: Mapping[str, Tensor], ignore: Iterable[str] = ()
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Translate their tensors. Returns ours, and the names of theirs that are missing and left over."""
    ignore = tuple(ignore)
    result: dict[str, Tensor] = {}
    missing: list[str] = []
    used: set[str] = set()
    for step in steps:
        absent = [k for k in step.theirs if k not in theirs]
        used.update(step.theirs)
        if absent:
            missing.extend(k for k in absent if not is_counter(k))
            continue
        result.update(_import(step, [theirs[k] for k in step.theirs]))
    extra = [k for k in theirs if k not in used and not _any_match(k, ignore) and not is_counter(k)]
    return result, missing, extra


def to_theirs(steps: Iterable[Step], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate our tensors back; the inverse of `to_ours` but for their ignored tensors."""
    result: dict[str, Tensor] = {}
    for step in steps:
        if all(k in ours for k in step.ours):
            result.update(_export(step, [ours[k] for k in step.ours]))
    return result


def their_shapes(steps: Iterable[Step], shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of their tensors for the ``shapes`` of ours; what `to_theirs` would give, without tensors."""
    result: dict[str, tuple[int, ...]] = {}
    for step in steps:
        if step.pattern is None and len(step.ours) == len(step.theirs) == 1:
            result[step.theirs[0]] = tuple(shapes[step.ours[0]])
        else:
            ours = [torch.empty(tuple(shapes[k]), device="meta") for k in step.ours]
            result.update((k, tuple(v.shape)) for k, v in _export(step, ours).items())
    return result


def _import(step: Step, tensors: list[Tensor]) -> dict[str, Tensor]:
    value = tensors[0] if len(tensors) == 1 else _join(tensors, stack=step.pattern is not None)
    value = _rearranged(step, value, step.pattern)
    if step.magnitude is not None:
        value = value.abs() + step.magnitude
    if len(step.ours) == 1:
        return {step.ours[0]: value}
    _check_pieces(step, value)
    pieces = value.unbind(0) if step.stacked else torch.split(value, list(step.our_sizes), 0)
    return dict(zip(step.ours, pieces, strict=True))


def _check_pieces(step: Step, value: Tensor) -> None:
    expected = len(step.ours) if step.stacked else sum(step.our_sizes)
    if value.ndim == 0 or value.shape[0] != expected:
        message = (
            f"tensor {', '.join(step.theirs)}: shape {tuple(value.shape)} does not split into "
            f"{', '.join(step.ours)}, expected {expected} along the first axis"
        )
        raise DialectError(message)


def _export(step: Step, tensors: list[Tensor]) -> dict[str, Tensor]:
    value = tensors[0] if len(tensors) == 1 else _join(tensors, stack=step.stacked)
    if step.magnitude is not None:
        value = _without_magnitude(step, value, step.magnitude)
    value = _rearranged(step, value, _reverse(step.pattern))
    if len(step.theirs) == 1:
        return {step.theirs[0]: value.contiguous()}
    if step.pattern is not None:
        pieces: Sequence[Tensor] = value.unbind(0)
    elif step.their_sizes is not None:
        pieces = torch.split(value, list(step.their_sizes), 0)
    else:
        pieces = value.chunk(len(step.theirs), 0)
    return {k: p.contiguous() for k, p in zip(step.theirs, pieces, strict=True)}


def _without_magnitude(step: Step, value: Tensor, magnitude: float) -> Tensor:
    if not value.is_meta and not (value >= magnitude).all():
        message = (
            f"tensor {', '.join(step.ours)}: a number is {value.min().item():.3g}, expected {magnitude:g} or more: "
            f"their layer uses |{', '.join(step.theirs)}| + {magnitude:g}; save it in another dialect"
        )
        raise DialectError(message)
    return value - magnitude


def _join(tensors: list[Tensor], *, stack: bool) -> Tensor:
    return torch.stack(tensors) if stack else torch.cat(tensors)


def _reverse(pattern: str | None) -> str | None:
    if pattern is None:
        return None
    left, right = pattern.split("->")
    return f"{right.strip()} -> {left.strip()}"


def _rearranged(step: Step, value: Tensor, pattern: str | None) -> Tensor:
    if pattern is None:
        return value
    try:
        return einops.rearrange(value, pattern, **dict(step.axes))
    except einops.EinopsError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        message = f"tensor {', '.join(step.theirs)}: shape {tuple(value.shape)} does not fit {pattern!r} ({reason})"
        raise DialectError(message) from error


def _step(
    dialect: Dialect,
    left: str,
    line: _Line,
    axes: Mapping[str, int],
    arguments: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]],
) -> Step:
    ours = _keys(left)
    names, _, rearrangement = line.theirs.partition(":")
    theirs = _keys(names)
    pattern = rearrangement.strip() or None
    unknown = [k for k in ours if k not in shapes]
    if unknown:
        message = f"dialect {dialect.name!r}: tensors: {left!r}: the block has no {', '.join(map(repr, unknown))}"
        raise DialectError(message + did_you_mean(unknown[0], shapes))
    first = shapes[ours[0]]
    stacked = pattern is not None and len(ours) > 1 and _axis_count(pattern.split("->")[1]) == len(first) + 1
    known = _pattern_axes(pattern, axes, len(ours) if stacked else None, len(theirs) if len(theirs) > 1 else None)
    their_sizes = tuple(int(evaluate(str(s), arguments)) for s in line.sizes) if line.sizes else None
    our_sizes = tuple(shapes[k][0] if len(shapes[k]) else 1 for k in ours)
    return Step(ours, theirs, pattern, known, our_sizes, their_sizes, stacked, line.magnitude)


def _pattern_axes(pattern: str | None, axes: Mapping[str, int], ours: int | None, theirs: int | None) -> dict[str, int]:
    """Return the sizes of the axes of ``pattern`` that are known beforehand."""
    if pattern is None:
        return {}
    left, right = pattern.split("->")
    used = set(re.findall(r"[A-Za-z_]\w*", pattern))
    known = {k: v for k, v in axes.items() if k in used}
    if ours is not None and (name := re.match(r"\s*([A-Za-z_]\w*)", right)):
        known[name.group(1)] = ours
    if theirs is not None and (name := re.match(r"\s*([A-Za-z_]\w*)", left)):
        known[name.group(1)] = theirs
    return known


def _axis_count(side: str) -> int:
    return len(re.sub(r"\([^)]*\)", "x", side).split())


def _axes(dialect: Dialect, arguments: Mapping[str, Any]) -> dict[str, int]:
    axes = {k: v for k, v in arguments.items() if isinstance(v, int) and not isinstance(v, bool)}
    for name, value in dialect.axes.items():
        axes[name] = int(evaluate(value, arguments)) if isinstance(value, str) else int(value)
    return axes


def _alternative(dialect: Dialect, left: str, right: Any, arguments: Mapping[str, Any]) -> _Line | None:
    for option in right if isinstance(right, list) else [right]:
        if isinstance(option, str):
            return _Line(option)
        if not isinstance(option, dict) or not isinstance(option.get("theirs"), str):
            message = f"dialect {dialect.name!r}: tensors.{left}: {option!r}, expected a key or {{theirs: …}}"
            raise DialectError(message)
        when, added = option.get("when"), option.get("magnitude")
        if added is not None and not (type(added) in (int, float) and added >= 0):
            message = f"dialect {dialect.name!r}: tensors.{left}: magnitude is {added!r}, "
            raise DialectError(message + "expected a number such as 1.0e-5")
        if when is None or evaluate(when, arguments) if isinstance(when, str | None) else when:
            return _Line(option["theirs"], option.get("sizes"), added)
    return None


def _keys(text: str) -> tuple[str, ...]:
    return tuple(k.strip() for k in text.split(",") if k.strip())


_HOLE = re.compile(r"\\\{(\w+)\\\}|\\\*")


def _matches(left: str, keys: Iterable[str]) -> list[Mapping[str, str]]:
    """Return the values of the holes of ``left`` for each of our keys that its first name matches."""
    first = _keys(left)[0]
    if "{" not in first and "*" not in first:
        return [{}] if first in keys else []
    regex = _regex_of(first)
    return [m.groupdict() for k in keys if (m := regex.match(k))]


@functools.lru_cache(maxsize=1024)
def _regex_of(name: str) -> re.Pattern[str]:
    return re.compile(_HOLE.sub(_group_of(set()), re.escape(name)) + r"\Z")


def _group_of(seen: set[str]) -> Callable[[re.Match[str]], str]:
    def group(hole: re.Match[str]) -> str:
        name = hole.group(1) or "rest"
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>.+)" if name == "rest" else rf"(?P<{name}>[^.]+)"

    return group


def _fill(text: str, groups: Mapping[str, str]) -> str:
    names, colon, pattern = text.partition(":")
    for name, value in groups.items():
        names = names.replace("*" if name == "rest" else "{" + name + "}", value)
    return names + colon + pattern


def _any_match(key: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(key, g) for g in globs)
