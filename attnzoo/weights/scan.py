"""Find the blocks inside a checkpoint.

`scan` never decides what the tensors do not say: where several blocks or arguments fit, all are listed, and what
tensors cannot tell (the number of heads, a gate's form) is named.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from attnzoo.registry import Registry
from attnzoo.weights.checkpoint import Checkpoint
from attnzoo.weights.find import NameIndex, Place, find_places
from attnzoo.weights.problem import Built
from attnzoo.weights.solve import Shapes, Solution, solve

__all__ = ["Found", "Reading", "Unsolved", "scan", "scan_fully"]


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
        dialects: Those blocks and dialects, in the same order.
    """

    site: str
    reasons: tuple[str, ...]
    dialects: tuple[tuple[str, str], ...] = ()


def scan(checkpoint: Checkpoint, registry: Registry) -> list[Found]:
    """Return the places of all installed blocks in ``checkpoint``, ordered as in the file's names.

    A place inside another one that the outer block accounts for is left out.
    """
    return scan_fully(checkpoint, registry)[0]


def scan_fully(checkpoint: Checkpoint, registry: Registry) -> tuple[list[Found], list[Unsolved]]:
    """Return what `scan` returns, and the places that have a block's names but not its shapes."""
    index = NameIndex(checkpoint.tensors)
    places: dict[str, list[Place]] = {}
    for place in find_places(index, registry):
        places.setdefault(place.site, []).append(place)
    by_site: dict[str, list[tuple[Place, Solution]]] = {}
    without: dict[str, list[Place]] = {}
    solver = _Solver()
    for site in sorted(places, key=lambda s: s.count(".") if s else -1):
        if any(outer in by_site for outer in _outer(site)):
            continue
        shapes = {n: checkpoint.tensors[_join(site, n)].shape for n in index.below(site)}
        solutions, unsolved = solver.solve_all(places[site], shapes)
        if solutions:
            by_site[site] = solutions
        if unsolved:
            without[site] = unsolved
    found = [_found(checkpoint, index, site, _readings(by_site[site])) for site in sorted(by_site, key=_natural)]
    if checkpoint.graph is not None:
        from attnzoo.weights.onnx_file import scan_graph

        found += scan_graph(checkpoint, registry, {f.site for f in found})
    sites = {f.site for f in found}
    taken = sites.union(*map(_outer, sites))
    left = [s for s in without if s not in taken and sites.isdisjoint(_outer(s))]
    return found, [_unsolved(s, without[s]) for s in sorted(left, key=_natural)]


def _unsolved(site: str, places: list[Place]) -> Unsolved:
    dialects = tuple((p.entry.id, p.dialect.name) for p in places)
    reasons = (
        f"{block} in the dialect {name!r}: no arguments found that give these shapes" for block, name in dialects
    )
    return Unsolved(site, tuple(reasons), dialects)


def _outer(site: str) -> list[str]:
    """Return the paths that ``site`` lies within, the whole file (an empty path) last."""
    parts = site.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, -1, -1)] if site else []


class _Solver:
    """Solves each set of shapes once: the layers of a model are alike."""

    def __init__(self) -> None:
        self.built = Built()
        self.known: dict[Any, Solution | None] = {}

    def solve_all(self, places: list[Place], shapes: Shapes) -> tuple[list[tuple[Place, Solution]], list[Place]]:
        """Return the solutions at one site, and the places without one."""
        solutions: list[tuple[Place, Solution]] = []
        unsolved: list[Place] = []
        alike = tuple(shapes.items())
        for place in places:
            key = (place.entry.id, place.dialect.name, alike)
            if key not in self.known:
                self.known[key] = solve(place.entry, place.dialect, shapes, self.built)
            solution = self.known[key]
            if solution is None:
                unsolved.append(place)
            elif solution.matched:
                solutions.append((place, solution))
        return solutions, unsolved


def _join(site: str, name: str) -> str:
    return f"{site}.{name}" if site else name


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
