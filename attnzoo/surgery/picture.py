"""A picture of a profile: one bar a part for each kind of cost. Needs matplotlib (``pip install attnzoo[plot]``)."""

from pathlib import Path

from attnzoo.errors import SurgeryError
from attnzoo.surgery.profiling import Cost, Profile

__all__ = ["draw_profile"]


def draw_profile(profile: Profile, path: Path | str) -> None:
    """Write the costs of ``profile`` as bars to an image file.

    Raises:
        SurgeryError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        message = f"{path}: a picture needs matplotlib, which is not installed; pip install attnzoo[plot]"
        raise SurgeryError(message) from error
    costs = [profile.whole, *([profile.bare] if profile.bare else []), *profile.blocks]
    columns = [column for column in _columns(costs) if any(column[1])]
    figure = Figure(figsize=(3 * len(columns) + 2, 0.4 * len(costs) + 1.5), layout="constrained")
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axis, (title, values) in zip(axes, columns, strict=True):
        axis.barh([cost.name for cost in costs], values, color="#4477aa")
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=8)
    axes[0].invert_yaxis()
    figure.suptitle(f"{profile.module} on {profile.device} at input {profile.inputs}", fontsize=10)
    figure.savefig(path, dpi=150)


def _columns(costs: list[Cost]) -> list[tuple[str, list[float]]]:
    return [
        ("parameters", [cost.parameters for cost in costs]),
        ("MACs", [cost.macs for cost in costs]),
        ("kept for backward, MB", [cost.activation_bytes / 1e6 for cost in costs]),
        ("forward, ms", [1e3 * cost.time.median if cost.time else 0.0 for cost in costs]),
    ]
