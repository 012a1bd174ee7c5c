"""Solve a block's arguments from the shapes of another library's tensors.

Nothing about a block is written down for this. The block is built on the meta device, its tensors are translated into
the dialect, and shapes are compared; that answers whether arguments fit. To find them, one argument at a time is changed
and the sizes that move with it are watched: a size that is always the argument gives it directly, any other law
(``3a``, ``c / a``, ``(2a - 1)²``) is fitted and checked. An argument that moves nothing cannot be told from tensors.
"""

import itertools
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from attnzoo.arguments import parameters_of
from attnzoo.card import Dialect
from attnzoo.errors import AttnZooError
from attnzoo.expression import evaluate, names_in
from attnzoo.registry import Entry
from attnzoo.weights.dialects import is_counter
from attnzoo.weights.foreign import expected_shapes, foreign_report, steps_for

__all__ = ["Solution", "solve"]

Shapes = Mapping[str, tuple[int, ...]]
Number = int | float
Variable = tuple[str, int | None]  # an argument, and which of its numbers where it is a tuple
_MAX_BUILDS = 400
_MAX_CHOICES = 64
_MAX_CANDIDATES = 20
_FILLERS = frozenset(["normal_", "uniform_", "fill_", "zero_", "copy_", "erfinv_", "clamp_"])
_SMALL = tuple(range(1, 13))  # sides of windows, for pairs


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


@dataclass(frozen=True)
class _Problem:
    """One block, one dialect, the shapes of the tensors there."""

    entry: Entry
    dialect: Dialect
    shapes: Shapes
    cls: Any
    builds: dict[str, Shapes | None]  # shared by all problems of one dialect
    spent: list[int]  # builds made for this problem

    def sizes(self, args: Mapping[str, Any]) -> Shapes | None:
        """Return the shapes of their tensors for our arguments, or None if the block cannot be so."""
        key = repr(sorted(args.items()))
        if key not in self.builds:
            if self.spent[0] >= _MAX_BUILDS:
                return None
            self.spent[0] += 1
            self.builds[key] = _expected(self, args)
        return self.builds[key]

    def fits(self, args: Mapping[str, Any]) -> bool:
        """Say whether every tensor is there and has its shape."""
        sizes = self.sizes(args)
        return sizes is not None and foreign_report(self.dialect, sizes, self.shapes).ok

    def same_names(self, args: Mapping[str, Any]) -> bool:
        """Say whether the names are the same, whatever the shapes."""
        sizes = self.sizes(args)
        if sizes is None:
            return False
        report = foreign_report(self.dialect, sizes, self.shapes)
        return not (report.missing or report.unexpected)


class _NoValues(TorchFunctionMode):
    """Leaves out what fills tensors with first values: on the meta device there are none, and it takes most of the time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in _FILLERS:
            return args[0] if args else next(iter((kwargs or {}).values()))
        return func(*args, **(kwargs or {}))


def _expected(problem: _Problem, args: Mapping[str, Any]) -> Shapes | None:
    try:
        with torch.device("meta"), _NoValues():
            module = problem.cls(**args)
        return expected_shapes(steps_for(problem.entry, problem.dialect, args, module), module)
    except Exception:
        # Candidates are guesses: a constructor may refuse them in any way, and then they are not the answer.
        return None


def solve(
    entry: Entry,
    dialect: Dialect,
    shapes: Shapes,
    builds: dict[str, Shapes | None] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Solution | None:
    """Return the arguments with which ``entry``'s block has tensors of ``shapes`` in ``dialect``, or None.

    ``builds`` keeps what was learned about the block in this dialect, for the next call; ``given`` are arguments that are
    known already.
    """
    try:
        problem = _Problem(entry, dialect, shapes, entry.card.load_class(), {} if builds is None else builds, [0])
        fixed, free = _known(problem, given or {})
    except AttnZooError:
        return None
    parameters = parameters_of(problem.cls)
    choices = {n: v for n in free if len(v := _choices(parameters[n])) > 1 and not _is_number(parameters[n].annotation)}
    tried = []
    for start in _starts(problem, fixed, free):
        for args in _with_choices(problem, start, choices, free):
            if _same_ranks(problem, args):
                tried.append(args := _by_laws(problem, args, _variables(problem, args, free)))
                if problem.fits(args):
                    return _told(problem, _explicit(problem, args, free), fixed, free, choices)
    tried.sort(key=lambda args: _wrong(problem.sizes(args) or {}, problem.shapes))
    for args in tried[:4]:
        solved = _try_candidates(problem, args, _variables(problem, args, free))
        if solved is not None:
            return _told(problem, _explicit(problem, solved, free), fixed, free, choices)
    return None


def _same_ranks(problem: _Problem, args: Mapping[str, Any]) -> bool:
    sizes = problem.sizes(args) or {}
    return all(len(sizes[k]) == len(problem.shapes[k]) for k in sizes.keys() & problem.shapes.keys())


def _variables(problem: _Problem, args: Mapping[str, Any], free: list[str]) -> list[Variable]:
    """Return the numbers among the free arguments, whole ones first, each of a tuple for itself."""
    found: list[Variable] = []
    for name in free:
        value = args.get(name, parameters_of(problem.cls)[name].default)
        if type(value) in (int, float):
            found.append((name, None))
        elif isinstance(value, tuple) and value and all(type(v) is int for v in value):
            found += [(name, i) for i in range(len(value))]
    return sorted(found, key=lambda v: type(_get(args, problem, v)) is float)


def _get(args: Mapping[str, Any], problem: _Problem, variable: Variable) -> Any:
    name, index = variable
    value = args.get(name, parameters_of(problem.cls)[name].default)
    return value if index is None else value[index]


def _put(args: Mapping[str, Any], problem: _Problem, variable: Variable, value: Any) -> dict[str, Any]:
    name, index = variable
    if index is None:
        return {**args, name: value}
    old = args.get(name, parameters_of(problem.cls)[name].default)
    return {**args, name: (*old[:index], value, *old[index + 1 :])}


def _explicit(problem: _Problem, args: dict[str, Any], free: list[str]) -> dict[str, Any]:
    """Give numbers that were left to a rule of the block (None) the value that the tensors have."""
    for name in free:
        parameter = parameters_of(problem.cls)[name]
        if _is_number(parameter.annotation) and args.get(name, parameter.default) is None:
            for value in _candidates(problem.shapes):
                if problem.fits({**args, name: value}):
                    args = {**args, name: value}
                    break
    return args


def _known(problem: _Problem, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
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


def _options(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the one type."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def _is_number(annotation: Any) -> bool:
    return int in _options(annotation) and bool not in _options(annotation)


def _choices(parameter: Any) -> list[Any]:
    """Return the values that an argument which is no number may take, its default first."""
    annotation = parameter.annotation
    values: list[Any] = [] if parameter.default is parameter.empty else [parameter.default]
    for option in _options(annotation):
        if option is bool:
            values += [False, True]
        elif option is type(None):
            values.append(None)
        elif typing.get_origin(option) is typing.Literal:
            values += list(typing.get_args(option))
    unique: list[Any] = []
    for value in values:
        if not any(value is u or (value == u and type(value) is type(u)) for u in unique):
            unique.append(value)
    return unique


def _starts(problem: _Problem, fixed: Mapping[str, Any], free: list[str]) -> Iterator[dict[str, Any]]:
    """Yield arguments to start from: those of the card's examples that the dialect can say, with what it fixes.

    A tuple where a number does as well is first tried as one: most windows are square.
    """
    seen: list[dict[str, Any]] = []
    found = False
    parameters = parameters_of(problem.cls)
    for example in (problem.entry.card.example, *problem.entry.card.examples):
        start = {k: _tuples(v) for k, v in example.items() if k in free} | dict(fixed)
        single = {
            k: v[0] if isinstance(v, tuple) and v and k in free and _is_number(parameters[k].annotation) else v
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


def _other_starts(problem: _Problem, tried: list[dict[str, Any]], free: list[str]) -> Iterator[dict[str, Any]]:
    """Yield starts with options that no example has: numbers that may be None, and one choice at a time."""
    parameters = parameters_of(problem.cls)
    optional = [
        n for n in free if _is_number(parameters[n].annotation) and type(None) in _options(parameters[n].annotation)
    ]
    for start in tried:
        options: list[dict[str, Any]] = (
            [dict.fromkeys(optional, guess) for guess in _guesses(start)] if optional else []
        )
        options += [{name: value} for name in free for value in _choices(parameters[name])]
        for option in options:
            if problem.sizes({**start, **option}) is not None:
                yield {**start, **option}
                break


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _with_choices(
    problem: _Problem, start: dict[str, Any], choices: Mapping[str, list[Any]], free: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield ``start`` with every combination of options under which the names of the tensors are those at hand."""
    base = problem.sizes(start) or {}
    parameters = parameters_of(problem.cls)
    optional = {
        n: [None, *_guesses(start)]
        for n in free
        if _is_number(parameters[n].annotation) and type(None) in _options(parameters[n].annotation)
    }
    numbers = {
        n: [v, 1, 2, 3] for n in free if n not in optional and type(v := start.get(n, parameters[n].default)) is int
    }
    moving: dict[str, list[Any]] = {}
    lacking = {k for k in base if k not in problem.shapes and not is_counter(k)}  # names that no option takes away
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
    if lacking:
        return
    for combination in itertools.islice(itertools.product(*moving.values()), _MAX_CHOICES):
        args = {**start, **dict(zip(moving, combination, strict=True))}
        if problem.same_names(args):
            yield args


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


def _by_laws(problem: _Problem, args: dict[str, Any], variables: list[Variable]) -> dict[str, Any]:
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


def _read_directly(problem: _Problem, args: dict[str, Any], variables: list[Variable]) -> dict[str, Any]:
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
        together = _put(together, problem, variable, value)
    without, loose = together, together
    for variable in variables:
        if variable not in read and type(_get(args, problem, variable)) is int:
            loose = _put(loose, problem, variable, 1)
            without = _put(without, problem, variable, 1) if variable in still else without
    return next((a for a in (together, without, loose) if problem.sizes(a) is not None), args)


def _moved(
    problem: _Problem, args: Mapping[str, Any], variable: Variable
) -> tuple[tuple[Number, Shapes], tuple[Number, Shapes]] | None:
    """Return a number's value and shapes, and another value and shapes that the block can have too."""
    old = _get(args, problem, variable)
    before = problem.sizes(args)
    if before is None:
        return None
    others = (2 * old, 3 * old, old + 2, old + 1, 4 * old, old // 2, old - 1) if type(old) is int else (2 * old or 0.5,)
    for new in dict.fromkeys(others):
        if new > 0 and new != old:
            after = problem.sizes(_put(args, problem, variable, new))
            if after is not None:
                return (old, before), (new, after)
    return None


def _fit_law(problem: _Problem, args: dict[str, Any], variable: Variable) -> dict[str, Any]:
    """Return ``args`` with one number by a law that its sizes follow, if that mends a size."""
    moved = _moved(problem, args, variable)
    if moved is None:
        return args
    (old, before), (new, after) = moved
    values: list[Number] = []
    for key in before.keys() & after.keys() & problem.shapes.keys():
        for a, b, wanted in zip(before[key], after[key], problem.shapes[key], strict=False):
            if a != b:
                values += _inverse(old, a, new, b, wanted)
    for value in dict.fromkeys(values):
        changed = _put(args, problem, variable, value)
        sizes = problem.sizes(changed)
        if sizes is not None and _wrong(sizes, problem.shapes) < _wrong(before, problem.shapes):
            return changed
    return args


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


def _wrong(sizes: Shapes, shapes: Shapes) -> int:
    return sum(
        a != b
        for k in sizes.keys() & shapes.keys()
        for a, b in itertools.zip_longest(sizes[k], shapes[k], fillvalue=-1)
    )


def _try_candidates(problem: _Problem, args: dict[str, Any], variables: list[Variable]) -> dict[str, Any] | None:
    """Try the sizes at hand and their quotients for the numbers that still do not fit, at most two at a time."""
    whole = [v for v in variables if type(_get(args, problem, v)) is int]
    moving = [v for v in whole if (m := _moved(problem, args, v)) is not None and m[0][1] != m[1][1]]
    candidates = _candidates(problem.shapes)
    stuck = [v for v in whole if _moved(problem, args, v) is None]
    for value in candidates if stuck else ():
        changed = args
        for variable in stuck:
            changed = _put(changed, problem, variable, value)
        changed = _by_laws(problem, changed, variables)
        if problem.fits(changed):
            return changed
    for variable in moving:
        for value in dict.fromkeys([*candidates, *_SMALL]):
            if problem.fits(changed := _put(args, problem, variable, value)):
                return changed
    for one, other in itertools.combinations(moving, 2):
        few = _SMALL if one[0] == other[0] else candidates[:8]
        for first, second in itertools.product(few, few):
            changed = _put(_put(args, problem, one, first), problem, other, second)
            if problem.fits(changed):
                return changed
    return None


def _candidates(shapes: Shapes) -> list[int]:
    sizes = sorted({s for shape in shapes.values() for s in shape if s > 0})[:16]
    quotients = {a // b for a in sizes for b in sizes if a % b == 0}
    return list(dict.fromkeys([*sizes, *sorted(quotients)]))[:_MAX_CANDIDATES]


def _told(
    problem: _Problem, solved: dict[str, Any], fixed: Mapping[str, Any], free: list[str], choices: Mapping[str, Any]
) -> Solution:
    """Part what the tensors tell from what could as well be otherwise."""
    problem.spent[0] = 0
    parameters = parameters_of(problem.cls)
    told, untold = dict(fixed), {}
    for name in free:
        value = solved.get(name, parameters[name].default)
        if _could_differ(problem, solved, name, value, choices, free):
            untold[name] = None if value is parameters[name].empty else value
        else:
            told[name] = value
    sizes = problem.sizes(solved) or {}
    return Solution(told, untold, len(sizes.keys() & problem.shapes.keys()))


def _could_differ(
    problem: _Problem, solved: Mapping[str, Any], name: str, value: Any, choices: Mapping[str, Any], free: list[str]
) -> bool:
    everything = _variables(problem, solved, free)
    if name in choices:
        others = [v for v in choices[name] if v != value or type(v) is not type(value)]
        return any(_fits_otherwise(problem, {**solved, name: v}, everything) for v in others)
    variables = [v for v in everything if v[0] == name]
    if not variables:
        if value is not None or not _is_number(parameters_of(problem.cls)[name].annotation):
            return True
        return any(problem.fits({**solved, name: v}) for v in (1, 2, 4, 8, *_candidates(problem.shapes)[:6]))
    return any(_loose(problem, solved, v) or _traded(problem, solved, v, everything) for v in variables)


def _fits_otherwise(problem: _Problem, args: Mapping[str, Any], variables: list[Variable]) -> bool:
    """Say whether ``args`` fit, perhaps with one number doubled or halved."""
    if problem.fits(args):
        return True
    if not problem.same_names(args):
        return False
    changed = (_put(args, problem, v, n) for v in variables for n in _scaled(_get(args, problem, v)))
    return any(problem.fits(c) for c in changed)


def _scaled(value: Any) -> list[int]:
    if type(value) is not int:
        return []
    return [2 * value, *([value // 2] if value % 2 == 0 and value else [])]


def _loose(problem: _Problem, solved: Mapping[str, Any], variable: Variable) -> bool:
    """Say whether another value of one number fits as well."""
    value = _get(solved, problem, variable)
    nearby = (2 * value, value // 2, 3 * value, value + 1, 1, 4 * value) if type(value) is int else (2 * value or 0.5,)
    others = [v for v in dict.fromkeys(nearby) if v > 0 and v != value]
    return any(problem.fits(_put(solved, problem, variable, v)) for v in others)


def _traded(problem: _Problem, solved: Mapping[str, Any], variable: Variable, everything: list[Variable]) -> bool:
    """Say whether a number is told only together with others: doubled or halved with them, the block fits as well."""
    others = [v for v in everything if v != variable and type(_get(solved, problem, v)) is int][:3]
    for value in _scaled(_get(solved, problem, variable)):
        options = [[_get(solved, problem, v), *_scaled(_get(solved, problem, v))] for v in others]
        for values in itertools.product(*options):
            changed = _put(solved, problem, variable, value)
            for other, number in zip(others, values, strict=True):
                changed = _put(changed, problem, other, number)
            if problem.fits(changed):
                return True
    return False
