"""The numbers of `solve`: read from sizes, fitted by laws, or tried."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

from attnzoo.weights.problem import SMALL, Number, Problem, Shapes, Variable, candidate_sizes, get_number, put_number

__all__ = ["by_laws", "try_candidates", "wrong_sizes"]


def by_laws(problem: Problem, args: dict[str, Any], variables: list[Variable]) -> dict[str, Any]:
    """Return ``args`` with every number that can be read from a size, or follows a law."""
    args = _read_directly(problem, args, variables)
    if problem.fits(args):
        return args
    for _ in range(2):
        for variable in variables:
            args = _fit_law(problem, args, variable)
            if problem.fits(args):
                return args
    return args


def _read_directly(problem: Problem, args: dict[str, Any], variables: list[Variable]) -> dict[str, Any]:
    """Give each number that is always the size of some axis that axis' size; together, since one may bound another."""
    read: dict[Variable, int] = {}
    still: list[Variable] = []
    for variable in variables:
        moved = _moved(problem, args, variable)
        if moved is None or type(moved[0][0]) is float:
            continue
        (old, before), (new, after) = moved
        if before == after:
            still.append(variable)
        sizes = {
            problem.shapes[k][axis]
            for k in before.keys() & after.keys() & problem.shapes.keys()
            for axis, (a, b) in enumerate(zip(before[k], after[k], strict=False))
            if a == old and b == new and axis < len(problem.shapes[k])
        }
        if len(sizes) == 1:
            read[variable] = sizes.pop()
    together = args
    for variable, value in read.items():
        together = put_number(together, problem, variable, value)
    without, loose = together, together
    for variable in variables:
        if variable not in read and type(get_number(args, problem, variable)) is int:
            loose = put_number(loose, problem, variable, 1)
            without = put_number(without, problem, variable, 1) if variable in still else without
    return next((a for a in (together, without, loose) if problem.sizes(a) is not None), args)


def _moved(
    problem: Problem, args: Mapping[str, Any], variable: Variable
) -> tuple[tuple[Number, Shapes], tuple[Number, Shapes]] | None:
    """Return a number's value and shapes, and another value and shapes that the block can have too."""
    old = get_number(args, problem, variable)
    before = problem.sizes(args)
    if before is None:
        return None
    others = (2 * old, 3 * old, old + 2, old + 1, 4 * old, old // 2, old - 1) if type(old) is int else (2 * old or 0.5,)
    for new in dict.fromkeys(others):
        if new > 0 and new != old:
            after = problem.sizes(put_number(args, problem, variable, new))
            if after is not None:
                return (old, before), (new, after)
    return None


def _fit_law(problem: Problem, args: dict[str, Any], variable: Variable) -> dict[str, Any]:
    """Return ``args`` with one number by the law of its sizes that mends most of them, if any does."""
    moved = _moved(problem, args, variable)
    if moved is None:
        return args
    (old, before), (new, after) = moved
    values: list[Number] = []
    for key in (k for k in before if k in after and k in problem.shapes):  # in order: what is tried first may win
        for a, b, wanted in zip(before[key], after[key], problem.shapes[key], strict=False):
            if a != b:
                values += _inverse(old, a, new, b, wanted)
    best, wrong = args, wrong_sizes(before, problem.shapes)
    for value in dict.fromkeys(values):
        changed = put_number(args, problem, variable, value)
        sizes = problem.sizes(changed)
        if sizes is not None and wrong_sizes(sizes, problem.shapes) < wrong:
            best, wrong = changed, wrong_sizes(sizes, problem.shapes)
    return best


def _inverse(old: Number, a: int, new: Number, b: int, wanted: int) -> list[Number]:
    """Return the arguments that give the size ``wanted``, by laws through ``old`` to ``a`` and ``new`` to ``b``."""
    if isinstance(old, float) or isinstance(new, float):
        value = old + (wanted - a) * (new - old) / (b - a)
        return [value] if 0 < value < 2**40 else []
    found: list[Number] = []
    slope, rest = divmod(b - a, new - old)
    if not rest and slope and (wanted - a) % slope == 0:
        found.append(old + (wanted - a) // slope)
    if a * old == b * new and wanted and (a * old) % wanted == 0:
        found.append(a * old // wanted)
    root = math.isqrt(wanted)
    if root * root == wanted:
        found += _inverse_of_root(old, a, new, b, root)
    return [v for v in found if 0 < v < 2**40]


def _inverse_of_root(old: int, a: int, new: int, b: int, root: int) -> list[int]:
    first, second = math.isqrt(a), math.isqrt(b)
    if first * first != a or second * second != b:
        return []
    slope, rest = divmod(second - first, new - old)
    return [old + (root - first) // slope] if not rest and slope and (root - first) % slope == 0 else []


def wrong_sizes(sizes: Shapes, shapes: Shapes) -> int:
    """Return how many sizes are others."""
    return sum(
        a != b
        for k in sizes.keys() & shapes.keys()
        for a, b in itertools.zip_longest(sizes[k], shapes[k], fillvalue=-1)
    )


def try_candidates(problem: Problem, args: dict[str, Any], variables: list[Variable]) -> dict[str, Any] | None:
    """Try the sizes at hand and their quotients for the numbers that still do not fit, at most two at a time."""
    whole = [v for v in variables if type(get_number(args, problem, v)) is int]
    moving = [v for v in whole if (m := _moved(problem, args, v)) is not None and m[0][1] != m[1][1]]
    candidates = candidate_sizes(problem.shapes)
    stuck = [v for v in whole if _moved(problem, args, v) is None]
    for value in candidates if stuck else ():
        changed = args
        for variable in stuck:
            changed = put_number(changed, problem, variable, value)
        changed = by_laws(problem, changed, variables)
        if problem.fits(changed):
            return changed
    for variable in moving:
        for value in dict.fromkeys([*candidates, *SMALL]):
            if problem.fits(changed := put_number(args, problem, variable, value)):
                return changed
    for one, other in itertools.combinations(moving, 2):
        few = SMALL if one[0] == other[0] else candidates[:8]
        for first, second in itertools.product(few, few):
            changed = put_number(put_number(args, problem, one, first), problem, other, second)
            if problem.fits(changed):
                return changed
    return None
