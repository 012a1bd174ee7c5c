"""``attnzoo schema``: the JSON Schema of specs."""

import json

import click

__all__ = ["command"]


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of specs: every installed block with its arguments, for editors to complete."""
    from attnzoo.registry import default_registry
    from attnzoo.schema import spec_schema

    click.echo(json.dumps(spec_schema(default_registry()), indent=2))
