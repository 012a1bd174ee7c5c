"""What went where, and what it costs."""

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Report", "Row", "human"]


@dataclass(frozen=True)
class Row:
    """One inserted block. ``flops`` are those of one run of the host: of all ``calls`` of the site."""

    site: str
    site_class: str
    position: str
    name: str
    block: str
    layout: str
    shape: tuple[int, ...]
    channels: int
    parameters: int
    flops: int
    calls: int
    identity: bool


@dataclass(frozen=True)
class Report:
    """What an insertion did. ``host_*`` are the numbers of the host before it; FLOPs are 2 x multiply-adds."""

    host: str
    inputs: str
    faked: bool
    host_parameters: int
    host_flops: int
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Parameters added."""
        return sum(row.parameters for row in self.rows)

    @property
    def flops(self) -> int:
        """FLOPs added."""
        return sum(row.flops for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, with the sums."""
        return {**asdict(self), "parameters": self.parameters, "flops": self.flops}

    def __str__(self) -> str:
        heads = ("site", "class", "position", "block", "layout", "shape", "channels", "parameters", "FLOPs")
        lines = [heads, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([*table, self._sums()])

    def _sums(self) -> str:
        how = "fake" if self.faked else "real"
        parameters = _share(self.parameters, self.host_parameters)
        flops = _share(self.flops, self.host_flops)
        return (
            f"{self.host} at {how} input {self.inputs}: {len(self.rows)} inserted, "
            f"+{human(self.parameters)} parameters ({parameters} of {human(self.host_parameters)}), "
            f"+{human(self.flops)} FLOPs ({flops} of {human(self.host_flops)})"
        )


def human(number: float) -> str:
    """Return ``number`` with three digits and a unit: ``1.23 M``."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "of none"


def _cells(row: Row) -> tuple[str, ...]:
    block = row.name if row.name == row.block.lower() else f"{row.block} as {row.name}"
    gate = " (identity)" if row.identity else ""
    times = f" x{row.calls}" if row.calls > 1 else ""
    shape = "x".join(map(str, row.shape)) + times
    return (
        row.site or ".",
        row.site_class,
        row.position,
        block + gate,
        row.layout,
        shape,
        str(row.channels),
        human(row.parameters),
        human(row.flops),
    )
