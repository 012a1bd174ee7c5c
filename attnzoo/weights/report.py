"""Load reports: what fitted and what did not, by name with shapes; and loading that is all or nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from attnzoo.errors import LoadError

__all__ = ["LoadReport", "compare_shapes", "compare_tensors", "load_into"]


@dataclass(frozen=True)
class LoadReport:
    """What fitted and what did not: names, and both shapes where they differ (file's, then module's)."""

    matched: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    adapted: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether everything fitted."""
        return not (self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        lines = [f"missing {name!r}" for name in self.missing]
        lines += [f"unexpected {name!r}" for name in self.unexpected]
        lines += [f"{name!r} has shape {a}, expected {b}" for name, (a, b) in self.misshapen.items()]
        lines += [f"{name!r} was adapted from shape {a} to {b}" for name, (a, b) in self.adapted.items()]
        return "; ".join([f"{len(self.matched)} tensors fit", *lines])


def compare_shapes(own: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]]) -> LoadReport:
    """Compare names and shapes: ``found`` those of a file, ``own`` those that are wanted."""
    misshapen = {k: (tuple(found[k]), tuple(own[k])) for k in own if k in found and tuple(found[k]) != tuple(own[k])}
    return LoadReport(
        matched=tuple(k for k in own if k in found and k not in misshapen),
        missing=tuple(k for k in own if k not in found),
        unexpected=tuple(k for k in found if k not in own),
        misshapen=misshapen,
    )


def compare_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> LoadReport:
    """Compare ``tensors`` with what ``module`` has, by name and shape; changes nothing."""
    return compare_shapes(
        {k: tuple(v.shape) for k, v in module.state_dict().items()}, {k: tuple(v.shape) for k, v in tensors.items()}
    )


def load_into(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str = "tensors", *, adapt: bool = False
) -> LoadReport:
    """Copy ``tensors`` into ``module``, all or nothing.

    Args:
        module: The module to fill.
        tensors: Its tensors by name.
        where: What error texts name.
        adapt: Fit tensors of other sizes: axes that are too long are cut, too short ones repeated and, for all but the
            first axis, scaled so that sums over them keep their size. Reported in ``adapted``; names must fit all the
            same.

    Raises:
        LoadError: Something is missing, unexpected or misshapen; the module is unchanged.
    """
    report = compare_tensors(module, tensors)
    values = dict(tensors)
    if adapt and report.misshapen:
        values, report = _adapted(values, report)
    if not report.ok:
        message = f"{where}: {report}; the module is unchanged"
        raise LoadError(message, report)
    module.load_state_dict(values)
    return report


def _adapted(tensors: dict[str, Tensor], report: LoadReport) -> tuple[dict[str, Tensor], LoadReport]:
    fitting = {k: (a, b) for k, (a, b) in report.misshapen.items() if len(a) == len(b) and min((*a, *b), default=1) > 0}
    values = {**tensors, **{k: _resized(tensors[k], wanted) for k, (_, wanted) in fitting.items()}}
    left = {k: v for k, v in report.misshapen.items() if k not in fitting}
    matched = (*report.matched, *fitting)
    return values, LoadReport(matched, report.missing, report.unexpected, left, fitting)


def _resized(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    for axis, size in enumerate(shape):
        old = tensor.shape[axis]
        if old == size:
            continue
        times = [1] * tensor.ndim
        times[axis] = -(-size // old)
        tensor = tensor.repeat(times).narrow(axis, 0, size)
        if axis > 0 and tensor.is_floating_point():
            tensor = tensor * (old / size)
    return tensor
