"""``attnzoo search TERM``: blocks by words, installed or not."""

import json
from dataclasses import asdict

import click

__all__ = ["command"]


@click.command("search")
@click.argument("term", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(term: tuple[str, ...], as_json: bool) -> None:
    """Search blocks whose name, summary, paper or plugin has every word of TERM. Exit code 1 if there are none."""
    from attnzoo.errors import near_matches
    from attnzoo.registry import default_registry
    from attnzoo.search import search
    from attnzoo.weights.catalogue import catalogue_of

    registry = default_registry()
    known = catalogue_of(registry).plugins
    hits = search(" ".join(term), registry, known)
    if as_json:
        click.echo(json.dumps([asdict(h) for h in hits], indent=2))
    width = max((len(h.id) for h in hits), default=0)
    for hit in () if as_json else hits:
        note = f"  (not installed; attnzoo install {hit.install})" if hit.install else ""
        click.echo(f"{hit.id:<{width}}  {hit.summary}{note}")
    if not hits:
        names = {e.card.name for e in registry} | {b for k in known for b in k.blocks}
        near = near_matches(" ".join(term), names)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        click.echo(f"nothing has all of the words {' '.join(term)!r}{hint}", err=True)
        raise SystemExit(1)
