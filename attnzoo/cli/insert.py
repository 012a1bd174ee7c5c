"""``attnzoo insert MODEL --spec SPEC``: try a spec on a model."""

import json
from pathlib import Path
from typing import Any

import click

__all__ = ["command"]


@click.command("insert")
@click.argument("model")
@click.option("--spec", type=click.Path(path_type=Path), help="YAML file with an `insert:` document.")
@click.option("--block", help="Name of a block, instead of --spec; needs --at.")
@click.option("--at", help="Where: a name, glob, re:…, class:… or named placement.")
@click.option("--identity", is_flag=True, help="With --block: leave the output as it is at first.")
@click.option("--shape", default=None, help="Shape of the input to probe with, such as 1,3,224,224.")
@click.option("--depth", type=int, default=2, show_default=True, help="Depth of the tree; blocks are always shown.")
@click.option("--save", type=click.Path(path_type=Path), help="Write the new blocks to this safetensors file.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    model: str,
    spec: Path | None,
    block: str | None,
    at: str | None,
    identity: bool,
    shape: str | None,
    depth: int,
    save: Path | None,
    as_json: bool,
) -> None:
    """Insert blocks into MODEL (see attnzoo sites) and print what went where and what it costs."""
    if (spec is None) == (block is None):
        message = "give either --spec FILE, or --block NAME and --at PLACE"
        raise click.UsageError(message)
    import attnzoo
    from attnzoo.cli._options import shape_of
    from attnzoo.hosts import build_host

    host = build_host(model, attnzoo.default_registry())
    what, where = (str(spec), {}) if block is None else (block, {"at": at, "identity": identity})
    report = attnzoo.insert(host, what, inputs=shape_of(shape), **where)
    if save is not None:
        attnzoo.save_inserted(host, save)
    _print(host, report, depth, as_json)
    if save is not None and not as_json:
        click.echo(f"saved {save}")


def _print(host: Any, report: Any, depth: int, as_json: bool) -> None:
    from attnzoo.surgery.tree import tree_lines

    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
        return
    for line in tree_lines(host, depth=depth):
        click.echo(line)
    click.echo(str(report))
