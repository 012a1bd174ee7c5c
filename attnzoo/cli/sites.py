"""``attnzoo sites MODEL``: where blocks can go in a model."""

import json
import re

import click

__all__ = ["command"]


@click.command("sites")
@click.argument("model")
@click.option("--grep", default=None, help="Only modules whose name or class this regular expression finds.")
@click.option("--shape", default=None, help="Shape of the input to probe with, such as 1,3,224,224.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(model: str, grep: str | None, shape: str | None, as_json: bool) -> None:
    """List the modules of MODEL that are called, their output shapes, and the named placements.

    MODEL is a host of a plugin, such as torchvision/resnet50 or timm/vit_small_patch16_224, or module:function, a
    function of yours that returns a model.
    """
    from attnzoo.cli._options import shape_of
    from attnzoo.hosts import build_host, placement_sites, placements_for
    from attnzoo.registry import default_registry
    from attnzoo.surgery import host_modules, probe
    from attnzoo.surgery.tree import site_lines

    try:
        wanted = re.compile(grep or "")
    except re.error as error:
        message = f"{grep!r}: not a regular expression ({error})"
        raise click.BadParameter(message, param_hint="--grep") from error
    registry = default_registry()
    host = build_host(model, registry)
    seen = probe(host, [name for name, _ in host_modules(host)], shape_of(shape))
    lines = [line for line in site_lines(host, seen) if wanted.search(line[0]) or wanted.search(line[1])]
    places = {name: (place, placement_sites(host, place)) for name, place in placements_for(host, registry).items()}
    if as_json:
        sites = [{"site": name, "class": kind, "shape": size} for name, kind, size in lines]
        named = [{"name": name, "summary": place.summary, "sites": at} for name, (place, at) in places.items()]
        click.echo(json.dumps({"host": model, "input": str(seen.call), "sites": sites, "placements": named}, indent=2))
        return
    widths = [max((len(line[i]) for line in lines), default=0) for i in (0, 1)]
    for name, kind, size in lines:
        click.echo(f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {size}")
    click.echo(f"{len(lines)} modules at input {seen.call}")
    for name, (place, at) in places.items():
        click.echo(
            f"at: {name}  {place.summary} ({place.position} {len(at)}: {', '.join(at[:3])}{', …' if at[3:] else ''})"
        )
