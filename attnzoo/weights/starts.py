"""Where the search for arguments begins: the examples of the card, and the options that change the tensors' names."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from attnzoo.arguments import parameters_of
from attnzoo.weights.dialects import is_counter
from attnzoo.weights.problem import Problem, Shapes, choices_of, is_number, is_optional_number

__all__ = ["starts", "with_choices"]

_MAX_CHOICES = 64


def starts(problem: Problem, fixed: Mapping[str, Any], free: list[str]) -> Iterator[dict[str, Any]]:
    """Yield arguments to start from: those of the card's examples that the dialect can say, with what it fixes.

    A tuple where a number does as well is first tried as one: most windows are square.
    """
    seen: list[dict[str, Any]] = []
    found = False
    parameters = parameters_of(problem.cls)
    for example in (problem.entry.card.example, *problem.entry.card.examples):
        start = {k: _tuples(v) for k, v in example.items() if k in free} | dict(fixed)
        single = {
            k: v[0] if isinstance(v, tuple) and v and k in free and is_number(parameters[k].annotation) else v
            for k, v in start.items()
        }
        for args in (single, start):
            if args not in seen:
                seen.append(args)
                if problem.sizes(args) is not None:
                    found = True
                    yield args
    if not found:
        yield from _other_starts(problem, seen, free)


def _other_starts(problem: Problem, tried: list[dict[str, Any]], free: list[str]) -> Iterator[dict[str, Any]]:
    """Yield starts with options that no example has: numbers that may be None, and one choice at a time."""
    parameters = parameters_of(problem.cls)
    optional = [n for n in free if is_optional_number(parameters[n].annotation)]
    for start in tried:
        options: list[dict[str, Any]] = (
            [dict.fromkeys(optional, guess) for guess in _guesses(start)] if optional else []
        )
        options += [{name: value} for name in free for value in choices_of(parameters[name])]
        for option in options:
            if problem.sizes({**start, **option}) is not None:
                yield {**start, **option}
                break


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def with_choices(
    problem: Problem, start: dict[str, Any], choices: Mapping[str, list[Any]], free: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield ``start`` with every combination of options under which the names of the tensors are those at hand."""
    base = problem.sizes(start) or {}
    if problem.lacking and problem.lacking <= base.keys():
        return
    moving, lacking = _moving(problem, start, base, choices, free)
    if lacking:
        rescued = _rescued(problem, start, choices, free, lacking)
        if rescued is None:
            problem.lacking.update(lacking)
            return
        moving, lacking = _moving(problem, rescued, problem.sizes(rescued) or {}, choices, free)
        start = rescued
    for combination in itertools.islice(itertools.product(*moving.values()), _MAX_CHOICES):
        args = {**start, **dict(zip(moving, combination, strict=True))}
        if problem.same_names(args):
            yield args


def _moving(
    problem: Problem, start: dict[str, Any], base: Shapes, choices: Mapping[str, list[Any]], free: list[str]
) -> tuple[dict[str, list[Any]], set[str]]:
    """Return the values of each option that changes the tensors, and the names that no option takes away."""
    parameters = parameters_of(problem.cls)
    optional = {n: [None, *_guesses(start)] for n in free if is_optional_number(parameters[n].annotation)}
    numbers = {
        n: [v, 1, 2, 3] for n in free if n not in optional and type(v := start.get(n, parameters[n].default)) is int
    }
    moving: dict[str, list[Any]] = {}
    lacking = {k for k in base if k not in problem.shapes and not is_counter(k)}
    for name, values in {**choices, **optional, **numbers}.items():
        now = start.get(name, parameters[name].default)
        found = []
        for value in values:
            sizes = problem.sizes({**start, name: value}) if value != now else base
            changed = sizes is not None and (sizes.keys() != base.keys() if name in numbers else sizes != base)
            lacking -= set() if sizes is None else lacking - sizes.keys()
            if sizes is not None and (changed or value == now):
                found.append((value, sizes))
        kept = _first_two(found) if name in optional else _distinct(found)
        if len(kept) > 1:
            kept.sort(key=lambda item: len(item[1].keys() ^ problem.shapes.keys()))
            moving[name] = [v for v, _ in kept]
    return moving, lacking


def _rescued(
    problem: Problem, start: dict[str, Any], choices: Mapping[str, list[Any]], free: list[str], lacking: set[str]
) -> dict[str, Any] | None:
    """Return ``start`` with several options changed at once, so that none of the ``lacking`` names is left, or None.

    An option may have no effect alone (a layer that is there for either of two reasons). All combinations are tried
    where there are few, otherwise all options of one, two and every argument at once.
    """
    parameters = parameters_of(problem.cls)
    optional = {n: [None, 1] for n in free if n not in choices and is_optional_number(parameters[n].annotation)}
    options = {
        name: [v for v in values if v is not start.get(name, parameters[name].default)]
        for name, values in {**choices, **optional}.items()
    }
    for names in _sets_of(options):
        for values in itertools.product(*(options[n] for n in names)):
            args = {**start, **dict(zip(names, values, strict=True))}
            sizes = problem.sizes(args)
            if sizes is not None and lacking.isdisjoint(sizes):
                return args
    return None


def _sets_of(options: Mapping[str, list[Any]]) -> Iterator[tuple[str, ...]]:
    """Yield sets of two arguments or more to change at once, all of them where the combinations are few."""
    names = [n for n, values in options.items() if values]
    few = math.prod(len(options[n]) + 1 for n in names) <= _MAX_CHOICES
    for count in range(2, len(names) + 1):
        if few or count == 2 or (count == len(names) and math.prod(len(options[n]) for n in names) <= _MAX_CHOICES):
            yield from itertools.combinations(names, count)


def _guesses(start: Mapping[str, Any]) -> list[int]:
    numbers = [v for v in start.values() if type(v) is int and v > 0]
    return sorted({n for v in numbers for n in (v, v // 2, v // 4, 2 * v) if n} | {1, 2})


def _distinct(found: list[tuple[Any, Shapes]]) -> list[tuple[Any, Shapes]]:
    """Return one value for each set of shapes."""
    kept: list[tuple[Any, Shapes]] = []
    for value, sizes in found:
        if all(sizes != other for _, other in kept):
            kept.append((value, sizes))
    return kept


def _first_two(found: list[tuple[Any, Shapes]]) -> list[tuple[Any, Shapes]]:
    """Return None and the first number of an argument that may be either."""
    none = [item for item in found if item[0] is None][:1]
    return none + [item for item in found if item[0] is not None][:1]
