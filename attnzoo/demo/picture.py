"""The demo's picture: the images, and over them the attention map of each block, with what each model says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnzoo.demo.run import CLASSES, Images, Result

__all__ = ["draw"]

_COLUMNS = 10


def draw(path: Path, images: Images, results: Sequence[Result]) -> None:
    """Write the picture: one column an image (one of each class), one row a model."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [int((images.labels_n == c).nonzero()[0]) for c in range(_COLUMNS)]
    rows = [r for r in results if r.heat_nhw is not None]
    figure = Figure(figsize=(1.25 * _COLUMNS + 2.6, 1.42 * (len(rows) + 1) + 0.9), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows) + 1, _COLUMNS, squeeze=False)
    figure.suptitle(
        "Fashion-MNIST test images, and where six pretrained attention blocks look "
        "(red: much; under each image what the model says, right or wrong)",
        fontsize=11,
    )
    for column, index in enumerate(shown):
        _image(axes[0][column], images, index)
        axes[0][column].set_title(CLASSES[int(images.labels_n[index])], fontsize=9)
        for row, result in enumerate(rows, 1):
            _overlay(axes[row][column], images, result, index)
    _label(axes[0][0], "image, true class", "")
    for row, result in enumerate(rows, 1):
        accuracy = f"{100 * result.accuracy:.0f} % of {len(images.labels_n)} right"
        _label(axes[row][0], result.name, f"{result.heat_shows}\n{accuracy}")
    figure.subplots_adjust(left=0.17, right=0.99, top=0.9, bottom=0.03, wspace=0.06, hspace=0.28)
    figure.savefig(path)


def _image(axes: Any, images: Images, index: int) -> None:
    axes.imshow(images.pixels_nhw[index].numpy(), cmap="gray", vmin=0, vmax=255, extent=(0, 28, 28, 0))
    axes.set_xticks([])
    axes.set_yticks([])


def _overlay(axes: Any, images: Images, result: Result, index: int) -> None:
    assert result.heat_nhw is not None
    _image(axes, images, index)
    heat = result.heat_nhw[index].numpy()
    axes.imshow(heat, cmap="jet", alpha=0.5, vmin=0, vmax=1, extent=(0, 28, 28, 0), interpolation="bilinear")
    said = int(result.predictions_n[index])
    right = said == int(images.labels_n[index])
    axes.set_xlabel(CLASSES[said], fontsize=8, color="darkgreen" if right else "crimson", labelpad=1)


def _label(axes: Any, name: str, more: str) -> None:
    axes.text(-0.12, 0.62, name, transform=axes.transAxes, ha="right", va="center", fontsize=11, weight="bold")
    axes.text(-0.12, 0.28, more, transform=axes.transAxes, ha="right", va="center", fontsize=8, color="dimgray")
