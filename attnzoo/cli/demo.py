"""``attnzoo demo``: the main job from spec to picture."""

from collections.abc import Sequence
from pathlib import Path

import click

__all__ = ["command"]


@click.command("demo")
@click.option("--out", type=click.Path(path_type=Path), default=Path("attnzoo-demo.png"), help="The picture to write.")
@click.option("--no-picture", is_flag=True, help="Write no picture.")
def command(out: Path, no_picture: bool) -> None:
    """Classify real images with pretrained attention blocks and draw their maps.

    Reads the specs of the demo, puts each block with its pretrained weights into a small CNN, classifies the shipped
    Fashion-MNIST test images, prints a table, and writes one picture.
    """
    from attnzoo.demo.run import DATA, read_images, run_demo
    from attnzoo.errors import AttnZooError
    from attnzoo.registry import default_registry

    images = read_images()
    click.echo(
        f"images   {len(images.labels_n)} of {images.about.get('source', '')} ({images.about.get('licence', '')})"
    )
    click.echo(f"specs    {DATA / 'demo.yaml'}")
    results = list(run_demo(images, default_registry()))
    _table(results)
    click.echo(
        "60 images are far too few to rank blocks; the table over all 10 000 is in docs/recipes/fashion-mnist.md"
    )
    if no_picture:
        return
    try:
        from attnzoo.demo.picture import draw

        draw(out, images, results)
    except ImportError as error:
        message = f"the picture needs matplotlib ({error}); pip install 'attnzoo[plot]', or use --no-picture"
        raise AttnZooError(message) from error
    except ValueError as error:
        message = f"{out}: cannot be drawn ({error}); end the name in .png, .svg or .pdf"
        raise AttnZooError(message) from error
    click.echo(f"picture  {out}")


def _table(results: "Sequence[object]") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from attnzoo.demo.run import Result

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title, right in (("block", 0), ("weights", 0), ("block parameters", 1), ("host parameters", 1), ("right", 1)):
        table.add_column(title, justify="right" if right else "left", no_wrap=True)
    for r in results:
        assert isinstance(r, Result)
        hits = round(r.accuracy * len(r.predictions_n))
        share = f"{hits}/{len(r.predictions_n)} ({100 * r.accuracy:.1f} %)"
        row = (r.block or "no attention", r.weights or "-", f"{r.block_parameters:,}", f"{r.host_parameters:,}", share)
        table.add_row(*row)
    # A table that is cut to a narrow terminal cannot be read; a line that wraps can.
    Console(width=max(Console().width, 118)).print(table)
