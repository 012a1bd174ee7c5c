"""The problem of `solve`: a block, a dialect, the shapes at hand, and what may be tried."""

import itertools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from attnzoo.arguments import full_arguments, parameters_of
from attnzoo.card import Dialect
from attnzoo.registry import Entry
from attnzoo.weights.dialects import their_shapes, translation
from attnzoo.weights.foreign import foreign_report

__all__ = [
    "SMALL",
    "Built",
    "Number",
    "Problem",
    "Shapes",
    "Variable",
    "candidate_sizes",
    "choices_of",
    "get_number",
    "is_number",
    "is_optional_number",
    "put_number",
    "same_ranks",
    "variables_of",
]

Shapes = Mapping[str, tuple[int, ...]]
Number = int | float
Variable = tuple[str, int | None]  # an argument, and which of its numbers where it is a tuple
_MAX_BUILDS = 400
_MAX_CANDIDATES = 20
_FILLERS = frozenset(["normal_", "uniform_", "fill_", "zero_", "copy_", "erfinv_", "clamp_"])
SMALL = tuple(range(1, 13))  # sides of windows, for pairs


@dataclass(frozen=True)
class Built:
    """What was learned by building blocks; kept for the next problem.

    Attributes:
        own: Block and arguments to the shapes of its own tensors, or None if the block cannot be so.
        theirs: Block, dialect and arguments to the shapes of their tensors.
    """

    own: dict[tuple[str, str], Shapes | None] = field(default_factory=dict)
    theirs: dict[tuple[str, str, str], Shapes | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """One block, one dialect, the shapes of the tensors there."""

    entry: Entry
    dialect: Dialect
    shapes: Shapes
    cls: Any
    built: Built  # shared by all problems
    spent: list[int]  # builds made for this problem
    lacking: set[str]  # names that it always has and that are not at hand, once known

    def sizes(self, args: Mapping[str, Any]) -> Shapes | None:
        """Return the shapes of their tensors for our arguments, or None if the block cannot be so."""
        key = (self.entry.id, self.dialect.name, repr(sorted(args.items())))
        if key not in self.built.theirs:
            if self.spent[0] >= _MAX_BUILDS:
                return None
            self.spent[0] += 1
            self.built.theirs[key] = _expected(self, args, key[2])
        return self.built.theirs[key]

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
    """Leaves out what fills tensors with first values: on the meta device there are none, and it takes most time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in _FILLERS:
            return args[0] if args else next(iter((kwargs or {}).values()))
        return func(*args, **(kwargs or {}))


def _expected(problem: Problem, args: Mapping[str, Any], key: str) -> Shapes | None:
    own = (problem.entry.id, key)
    if own not in problem.built.own:
        problem.built.own[own] = _own(problem, args)
    shapes = problem.built.own[own]
    if shapes is None:
        return None
    try:
        return their_shapes(translation(problem.dialect, full_arguments(problem.cls, args), shapes), shapes)
    except Exception:
        # Candidates are guesses: what a dialect cannot say of them is not the answer.
        return None


def _own(problem: Problem, args: Mapping[str, Any]) -> Shapes | None:
    try:
        with torch.device("meta"), _NoValues():
            module = problem.cls(**args)
        return {k: tuple(v.shape) for k, v in module.state_dict().items()}
    except Exception:
        # Candidates are guesses: a constructor may refuse them in any way, and then they are not the answer.
        return None


def same_ranks(problem: Problem, args: Mapping[str, Any]) -> bool:
    """Say whether every tensor has as many axes as at hand."""
    sizes = problem.sizes(args) or {}
    return all(len(sizes[k]) == len(problem.shapes[k]) for k in sizes.keys() & problem.shapes.keys())


def variables_of(problem: Problem, args: Mapping[str, Any], free: list[str]) -> list[Variable]:
    """Return the numbers among the free arguments, whole ones first, each of a tuple for itself."""
    found: list[Variable] = []
    for name in free:
        value = args.get(name, parameters_of(problem.cls)[name].default)
        if type(value) in (int, float):
            found.append((name, None))
        elif isinstance(value, tuple) and value and all(type(v) is int for v in value):
            found += [(name, i) for i in range(len(value))]
    return sorted(found, key=lambda v: type(get_number(args, problem, v)) is float)


def get_number(args: Mapping[str, Any], problem: Problem, variable: Variable) -> Any:
    """Return the number that a variable stands for."""
    name, index = variable
    value = args.get(name, parameters_of(problem.cls)[name].default)
    return value if index is None else value[index]


def put_number(args: Mapping[str, Any], problem: Problem, variable: Variable, value: Any) -> dict[str, Any]:
    """Return ``args`` with another value for a variable."""
    name, index = variable
    if index is None:
        return {**args, name: value}
    old = args.get(name, parameters_of(problem.cls)[name].default)
    return {**args, name: (*old[:index], value, *old[index + 1 :])}


def _options(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the one type."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def is_optional_number(annotation: Any) -> bool:
    """Say whether a whole number or None is expected."""
    return is_number(annotation) and type(None) in _options(annotation)


def is_number(annotation: Any) -> bool:
    """Say whether an annotation admits whole numbers."""
    return int in _options(annotation) and bool not in _options(annotation)


def choices_of(parameter: Any, *, several: bool = False) -> list[Any]:
    """Return the values that an argument which is no number may take, its default first.

    With ``several``, an argument that may be a list of words also has its lists of two.
    """
    annotation = parameter.annotation
    values: list[Any] = [] if parameter.default is parameter.empty else [parameter.default]
    for option in _options(annotation):
        if option is bool:
            values += [False, True]
        elif option is type(None):
            values.append(None)
        elif typing.get_origin(option) is typing.Literal:
            values += list(typing.get_args(option))
        elif several and typing.get_origin(option) is list:
            words = typing.get_args(*typing.get_args(option))
            values += [list(pair) for pair in itertools.permutations(words, 2)]
    unique: list[Any] = []
    for value in values:
        if not any(value is u or (value == u and type(value) is type(u)) for u in unique):
            unique.append(value)
    return unique


def candidate_sizes(shapes: Shapes) -> list[int]:
    """Return the sizes at hand and their quotients."""
    sizes = sorted({s for shape in shapes.values() for s in shape if s > 0})[:16]
    quotients = {a // b for a in sizes for b in sizes if a % b == 0}
    return list(dict.fromkeys([*sizes, *sorted(quotients)]))[:_MAX_CANDIDATES]
