"""``attnzoo show BLOCK``: everything about one block."""

import inspect
import json
from typing import Any

import click

__all__ = ["command"]


@click.command("show")
@click.argument("block")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(block: str, as_json: bool) -> None:
    """Show BLOCK: its arguments, shapes, maps, paper, dialects and weights."""
    from attnzoo.registry import default_registry

    entry = default_registry().find(block)
    facts = _facts(entry)
    if as_json:
        click.echo(json.dumps(facts, indent=2, default=str))
    else:
        _print(entry, facts)


def _print(entry: Any, facts: dict[str, Any]) -> None:
    click.echo(f"{entry.id} — {facts['summary']}")
    click.echo(f"  class      {facts['class']}")
    if facts["aliases"]:
        click.echo(f"  aliases    {', '.join(facts['aliases'])}")
    click.echo(f"  shape      {facts['shape']}")
    for name, shape in facts["maps"].items():
        click.echo(f"  map        {name}: {shape}")
    click.echo("  arguments")
    width = max((len(a["name"]) for a in facts["arguments"]), default=0)
    for argument in facts["arguments"]:
        default = "required" if argument["required"] else f"default {argument['default']!r}"
        click.echo(f"    {argument['name']:<{width}}  {argument['type']}, {default}")
    for key in ("paper", "origin"):
        if facts[key]:
            click.echo(f"  {key:<9}  {', '.join(str(v) for v in facts[key].values())}")
    if facts["notes"]:
        click.echo(f"  notes      {facts['notes']}")
    click.echo(f"  dialects   {', '.join(facts['dialects']) or 'none'}")
    click.echo(f"  weights    {', '.join(facts['weights']) or 'none known'}")
    click.echo(f"  plugin     {entry.plugin.distribution} {entry.plugin.version}")
    click.echo("")
    click.echo(f"  - block: {entry.id}")
    click.echo(f"    args: {json.dumps(dict(entry.card.example))}")


def _facts(entry: Any) -> dict[str, Any]:
    from attnzoo.registry import default_registry
    from attnzoo.weights.catalogue import catalogue_of

    card = entry.card
    weights = catalogue_of(default_registry()).weights
    return {
        "id": entry.id,
        "summary": card.summary,
        "class": f"{card.module}.{card.class_name}",
        "aliases": list(card.aliases),
        "domain": card.domain,
        "shape": card.shape,
        "maps": dict(card.maps),
        "arguments": _arguments(card.load_class()),
        "paper": dict(card.paper),
        "origin": dict(card.origin),
        "notes": card.notes,
        "version": card.version,
        "dialects": {d.name: dict(d.origin) for d in card.dialects.values()},
        "weights": [w.name for w in weights if w.block in (entry.id, card.name)],
    }


def _arguments(cls: type) -> list[dict[str, Any]]:
    from attnzoo.arguments import parameters_of, type_words

    empty = inspect.Parameter.empty
    return [
        {
            "name": p.name,
            "type": type_words(p.annotation),
            "required": p.default is empty,
            "default": None if p.default is empty else p.default,
        }
        for p in parameters_of(cls).values()
    ]
