"""Find the blocks inside a checkpoint, and cut one out.

`scan` never decides what the tensors do not say: where several blocks or arguments fit, all are listed, and what
tensors cannot tell (the number of heads, a gate's form) is named.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from attnzoo.card import Dialect
from attnzoo.errors import LoadError, NameNotFound, did_you_mean
from attnzoo.registry import Entry, Registry
from attnzoo.weights.checkpoint import Checkpoint
from attnzoo.weights.find import NameIndex, Place, find_places
from attnzoo.weights.foreign import build_foreign
from attnzoo.weights.solve import Shapes, Solution, solve

__all__ = ["Found", "Reading", "Unsolved", "cut_out", "scan", "scan_fully"]


@dataclass(frozen=True)
class Reading:
    """One way to read the tensors at a place: a block, its arguments, and the dialects that lead there.

    Attributes:
        block: The block's id.
        dialects: The dialects whose names and shapes fit, all with the same arguments.
        args: What the tensors and the dialect tell.
        untold: Arguments that the tensors cannot tell, with the values that stand in for them.
    """

    block: str
    dialects: tuple[str, ...]
    args: Mapping[str, Any]
    untold: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """A place in a checkpoint that has the tensors of a block.

    Attributes:
        site: The dotted path.
        readings: Every way to read it; more than one is ambiguous.
        tensors: How many tensors are there.
        dtype: Their type, in safetensors' spelling; several are joined by ``+``.
        same_as: An earlier site whose tensors are these very ones (one layer used several times), or an empty text.
        graph: Where the block was found by its place in an ONNX graph, the tensors' names in the file.
    """

    site: str
    readings: tuple[Reading, ...]
    tensors: int
    dtype: str
    same_as: str = ""
    graph: Mapping[str, str] = field(default_factory=dict)

    @property
    def ambiguous(self) -> bool:
        """Whether several blocks, or one with several arguments, fit."""
        return len(self.readings) > 1

    def data(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**asdict(self), "ambiguous": self.ambiguous}


@dataclass(frozen=True)
class Unsolved:
    """A place whose tensors have the names of a block, while no arguments were found that give their shapes.

    Attributes:
        site: The dotted path.
        reasons: For each block and dialect with these names, why it is not a reading.
    """

    site: str
    reasons: tuple[str, ...]


def scan(checkpoint: Checkpoint, registry: Registry) -> list[Found]:
    """Return the places of all installed blocks in ``checkpoint``, ordered as in the file's names.

    A place inside another one that the outer block accounts for is left out.
    """
    return scan_fully(checkpoint, registry)[0]


def scan_fully(checkpoint: Checkpoint, registry: Registry) -> tuple[list[Found], list[Unsolved]]:
    """Return what `scan` returns, and the places that have a block's names but not its shapes."""
    index = NameIndex(checkpoint.tensors)
    solver = _Solver()
    by_site: dict[str, list[tuple[Place, Solution]]] = {}
    without: dict[str, list[str]] = {}
    for place in find_places(index, registry):
        shapes = {n: checkpoint.tensors[_join(place.site, n)].shape for n in index.below(place.site)}
        solution = solver.solve(place.entry, place.dialect, shapes)
        if solution is not None and solution.matched:
            by_site.setdefault(place.site, []).append((place, solution))
        elif solution is None:
            reason = (
                f"{place.entry.id} in the dialect {place.dialect.name!r}: no arguments found that give these shapes"
            )
            without.setdefault(place.site, []).append(reason)
    outer = _outermost(by_site)
    found = [_found(checkpoint, index, site, _readings(by_site[site])) for site in sorted(outer, key=_natural)]
    if checkpoint.graph is not None:
        from attnzoo.weights.onnx_file import scan_graph

        found += scan_graph(checkpoint, registry, {f.site for f in found})
    left = [s for s in without if not any(_is_within(s, f.site) or _is_within(f.site, s) for f in found)]
    return found, [Unsolved(s, tuple(without[s])) for s in sorted(left, key=_natural)]


def _is_within(site: str, other: str) -> bool:
    return site == other or not other or site.startswith(f"{other}.")


class _Solver:
    """Solves each set of shapes once: the layers of a model are alike."""

    def __init__(self) -> None:
        self.builds: dict[tuple[str, str], dict[str, Shapes | None]] = {}
        self.known: dict[Any, Solution | None] = {}

    def solve(self, entry: Entry, dialect: Dialect, shapes: Shapes) -> Solution | None:
        key = (entry.id, dialect.name, tuple(sorted(shapes.items())))
        if key not in self.known:
            builds = self.builds.setdefault((entry.id, dialect.name), {})
            self.known[key] = solve(entry, dialect, shapes, builds)
        return self.known[key]


def _join(site: str, name: str) -> str:
    return f"{site}.{name}" if site else name


def _outermost(sites: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for site in sorted(sites, key=lambda s: s.count(".") if s else -1):
        if not any(site.startswith(f"{other}.") or not other for other in kept):
            kept.append(site)
    return kept


def _natural(site: str) -> list[tuple[int, int, str]]:
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in site.split(".")]


def _readings(found: Iterable[tuple[Place, Solution]]) -> tuple[Reading, ...]:
    """Join the dialects that lead to the same arguments; where only one of them knows something, that is untold."""
    groups: list[tuple[str, list[str], dict[str, Any], dict[str, Any]]] = []
    for place, solution in found:
        for block, dialects, args, untold in groups:
            if block == place.entry.id and _agree(args, untold, solution):
                dialects.append(place.dialect.name)
                loose = {k: args[k] for k in args.keys() & solution.untold.keys()}
                untold |= {k: v for k, v in solution.untold.items() if k not in untold} | loose
                args |= {k: v for k, v in solution.args.items() if k not in args and k not in untold}
                for key in untold:
                    args.pop(key, None)
                break
        else:
            groups.append((place.entry.id, [place.dialect.name], dict(solution.args), dict(solution.untold)))
    readings = [Reading(b, tuple(d), a, dict(sorted(u.items()))) for b, d, a, u in groups]
    return tuple(sorted(readings, key=lambda r: (-len(r.args), len(r.untold), r.block)))


def _agree(args: Mapping[str, Any], untold: Mapping[str, Any], other: Solution) -> bool:
    both = (args.keys() & other.args.keys()) - untold.keys() - other.untold.keys()
    return all(args[k] == other.args[k] for k in both)


def _found(checkpoint: Checkpoint, index: NameIndex, site: str, readings: tuple[Reading, ...]) -> Found:
    names = [_join(site, n) for n in index.below(site)]
    types = sorted({checkpoint.tensors[n].dtype for n in names if checkpoint.tensors[n].shape or len(names) == 1})
    return Found(site, readings, len(names), "+".join(types), _same_as(checkpoint, site, names))


def _same_as(checkpoint: Checkpoint, site: str, names: list[str]) -> str:
    """Return the site whose tensors those of ``site`` are, all of them, or an empty text."""
    ends = {checkpoint.shared.get(n, "").removesuffix(n[len(site) :]) if site else "" for n in names}
    other = ends.pop()
    return (
        other
        if not ends and other and all(_join(other, n[len(site) + 1 :]) in checkpoint.tensors for n in names)
        else ""
    )


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
        NameNotFound: The chosen block or dialect does not fit there.
    """
    reading = _chosen(found, registry, block, dialect)
    given = dict(arguments or {})
    where = f"{checkpoint.path} at {found.site!r}"
    unknown = [k for k in given if k not in reading.args and k not in reading.untold]
    if unknown:
        known = [*reading.untold, *reading.args]
        near, untold = did_you_mean(unknown[0], known), ", ".join(reading.untold) or "none"
        message = f"{where}: no argument {unknown[0]!r} to give{near}; untold are: {untold}"
        raise NameNotFound(message)
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
    """Say whether a whole number that tensors cannot tell has no default, or one that is a mere stand-in."""
    from attnzoo.arguments import parameters_of

    parameter = parameters_of(registry.find(reading.block).card.load_class())[name]
    return parameter.default is parameter.empty or (
        type(reading.untold[name]) is int and reading.untold[name] != parameter.default
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
