"""Solve a block's arguments from the shapes of another library's tensors.

Nothing about a block is written down for this. The block is built on the meta device, its tensors are translated into
the dialect, and shapes are compared; that answers whether arguments fit. To find them, one argument at a time is
changed and the sizes that move with it are watched: a size that is always the argument gives it directly, any other law
(``3a``, ``c / a``, ``(2a - 1)²``) is fitted and checked. An argument that moves nothing cannot be told from tensors.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnzoo.arguments import parameters_of
from attnzoo.card import Dialect
from attnzoo.errors import AttnZooError
from attnzoo.expression import evaluate, names_in
from attnzoo.registry import Entry
from attnzoo.weights.numbers import by_laws, try_candidates, wrong_sizes
from attnzoo.weights.problem import (
    Built,
    Problem,
    Shapes,
    Variable,
    candidate_sizes,
    choices_of,
    get_number,
    is_number,
    put_number,
    same_ranks,
    variables_of,
)
from attnzoo.weights.starts import starts, with_choices

__all__ = ["Shapes", "Solution", "solve"]


@dataclass(frozen=True)
class Solution:
    """Arguments with which the block has exactly the tensors at hand.

    Attributes:
        args: The arguments that the tensors or the dialect tell.
        untold: Arguments that the tensors cannot tell, with the values that stand in for them.
        matched: Number of tensors accounted for.
    """

    args: Mapping[str, Any]
    untold: Mapping[str, Any]
    matched: int


def solve(
    entry: Entry,
    dialect: Dialect,
    shapes: Shapes,
    built: Built | None = None,
    given: Mapping[str, Any] | None = None,
) -> Solution | None:
    """Return the arguments with which ``entry``'s block has tensors of ``shapes`` in ``dialect``, or None.

    ``built`` keeps what was learned about blocks, for the next call; ``given`` are arguments that are known already.
    """
    try:
        problem = Problem(entry, dialect, shapes, entry.card.load_class(), built or Built(), [0], set())
        fixed, free = _known(problem, given or {})
    except AttnZooError:
        return None
    parameters = parameters_of(problem.cls)
    choices = {
        n: v for n in free if len(v := choices_of(parameters[n])) > 1 and not is_number(parameters[n].annotation)
    }
    tried = []
    for start in starts(problem, fixed, free):
        for args in with_choices(problem, start, choices, free):
            if same_ranks(problem, args):
                tried.append(args := by_laws(problem, args, variables_of(problem, args, free)))
                if problem.fits(args):
                    return _told(problem, _explicit(problem, args, free), fixed, free, choices)
    tried.sort(key=lambda args: wrong_sizes(problem.sizes(args) or {}, problem.shapes))
    for args in tried[:4]:
        solved = try_candidates(problem, args, variables_of(problem, args, free))
        if solved is not None:
            return _told(problem, _explicit(problem, solved, free), fixed, free, choices)
    return None


def _known(problem: Problem, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return our arguments that the dialect fixes, and the names of those that depend on theirs."""
    fixed: dict[str, Any] = {}
    free: list[str] = []
    names = {"shapes": {k: list(v) for k, v in problem.shapes.items()}, "call": {}}
    for ours, value in problem.dialect.args.items():
        used = names_in(value) if isinstance(value, str) else set()
        if used - {"shapes"}:
            free.append(ours)
        else:
            fixed[ours] = evaluate(value, names) if isinstance(value, str) else value
    required = parameters_of(problem.cls)
    free += [n for n, p in required.items() if p.default is p.empty and n not in fixed and n not in free]
    return {**fixed, **given}, [n for n in free if n in required and n not in given]


def _told(
    problem: Problem, solved: dict[str, Any], fixed: Mapping[str, Any], free: list[str], choices: Mapping[str, Any]
) -> Solution:
    """Part what the tensors tell from what could as well be otherwise."""
    problem.spent[0] = 0
    parameters = parameters_of(problem.cls)
    told, untold = dict(fixed), {}
    choices = {name: choices_of(parameters[name], several=True) for name in choices}
    for name in free:
        value = solved.get(name, parameters[name].default)
        if _could_differ(problem, solved, name, value, choices, free):
            untold[name] = None if value is parameters[name].empty else value
        else:
            told[name] = value
    sizes = problem.sizes(solved) or {}
    return Solution(told, untold, len(sizes.keys() & problem.shapes.keys()))


def _could_differ(
    problem: Problem, solved: Mapping[str, Any], name: str, value: Any, choices: Mapping[str, Any], free: list[str]
) -> bool:
    everything = variables_of(problem, solved, free)
    if name in choices:
        others = [v for v in choices[name] if v != value or type(v) is not type(value)]
        changed = [{**solved, name: v} for v in others]
        return any(_fits_otherwise(problem, args, everything) for args in changed) or any(
            _fits_with_another(problem, args, name, choices) for args in changed
        )
    variables = [v for v in everything if v[0] == name]
    if not variables:
        if value is not None or not is_number(parameters_of(problem.cls)[name].annotation):
            return True
        return any(problem.fits({**solved, name: v}) for v in (1, 2, 4, 8, *candidate_sizes(problem.shapes)[:6]))
    if isinstance(value, tuple) and value != value[::-1] and problem.fits({**solved, name: value[::-1]}):
        return True
    return any(_loose(problem, solved, v) or _traded(problem, solved, v, everything) for v in variables)


def _fits_with_another(problem: Problem, args: Mapping[str, Any], name: str, choices: Mapping[str, Any]) -> bool:
    """Say whether ``args``, which the block refuses, fit with two words for another choice."""
    lists = [(other, v) for other in choices if other != name for v in choices[other] if isinstance(v, list)]
    if not lists or problem.sizes(args) is not None:
        return False
    return any(problem.fits({**args, other: value}) for other, value in lists)


def _fits_otherwise(problem: Problem, args: Mapping[str, Any], variables: list[Variable]) -> bool:
    """Say whether ``args`` fit, perhaps with one number doubled or halved."""
    if problem.fits(args):
        return True
    refused = problem.sizes(args) is None  # perhaps only together with a number that was a mere stand-in
    if not refused and not problem.same_names(args):
        return False
    changed = (put_number(args, problem, v, n) for v in variables for n in _scaled(get_number(args, problem, v)))
    return any(problem.fits(c) for c in changed)


def _scaled(value: Any) -> list[int]:
    if type(value) is not int:
        return []
    return [2 * value, *([value // 2] if value % 2 == 0 and value else [])]


def _loose(problem: Problem, solved: Mapping[str, Any], variable: Variable) -> bool:
    """Say whether another value of one number fits as well."""
    value = get_number(solved, problem, variable)
    whole = (2 * value, value // 2, 3 * value, value + 1, 1, 4 * value) if type(value) is int else ()
    nearby = whole or ((2 * value,) if value > 0 else (0.5, 2.0))
    others = [v for v in dict.fromkeys(nearby) if v > 0 and v != value]
    return any(problem.fits(put_number(solved, problem, variable, v)) for v in others)


def _traded(problem: Problem, solved: Mapping[str, Any], variable: Variable, everything: list[Variable]) -> bool:
    """Say whether a number is told only together with others: doubled or halved with them, the block fits as well."""
    whole = [v for v in everything if v != variable and type(get_number(solved, problem, v)) is int]
    others = whole[:3]
    for value in _scaled(get_number(solved, problem, variable)):
        changed = put_number(solved, problem, variable, value)
        for other in whole[3:]:
            numbers = _scaled(get_number(solved, problem, other))
            if any(problem.fits(put_number(changed, problem, other, n)) for n in numbers):
                return True
        options = [[get_number(solved, problem, v), *_scaled(get_number(solved, problem, v))] for v in others]
        for values in itertools.product(*options):
            changed = put_number(solved, problem, variable, value)
            for other, number in zip(others, values, strict=True):
                changed = put_number(changed, problem, other, number)
            if problem.fits(changed):
                return True
    return False


def _explicit(problem: Problem, args: dict[str, Any], free: list[str]) -> dict[str, Any]:
    """Give numbers that were left to a rule of the block (None) the value that the tensors have."""
    for name in free:
        parameter = parameters_of(problem.cls)[name]
        if is_number(parameter.annotation) and args.get(name, parameter.default) is None:
            for value in candidate_sizes(problem.shapes):
                if problem.fits({**args, name: value}):
                    args = {**args, name: value}
                    break
    return args
