"""``attnzoo weights``: list and verify pretrained weights."""

import json
from dataclasses import asdict

import click

__all__ = ["command"]


@click.group("weights")
def command() -> None:
    """List and verify pretrained weights."""


@command.command("list")
@click.option("--block", help="Only the weights of this block.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_weights(block: str | None, as_json: bool) -> None:
    """List the known weights."""
    from attnzoo.registry import default_registry
    from attnzoo.weights.catalogue import catalogue_of

    registry = default_registry()
    entries = catalogue_of(registry).weights
    if block:
        wanted = registry.find(block)
        entries = tuple(e for e in entries if e.block in (wanted.id, wanted.card.name))
    if as_json:
        click.echo(json.dumps([asdict(e) for e in entries], indent=2, default=str))
        return
    for entry in entries:
        metrics = ", ".join(f"{k} {v}" for k, v in entry.metrics.items())
        click.echo(f"{entry.name:<32} {entry.block:<24} {entry.licence:<12} {metrics}")
    click.echo(f"{len(entries)} known weights")


@command.command("verify")
@click.argument("names", nargs=-1)
def verify_weights(names: tuple[str, ...]) -> None:
    """Verify the sha256 of the local files of NAMES, or of all that are on this machine. Exit code 1 if one differs."""
    from attnzoo.errors import WeightsError
    from attnzoo.registry import default_registry
    from attnzoo.weights.catalogue import catalogue_of
    from attnzoo.weights.resolve import local_file

    catalogue = catalogue_of(default_registry())
    entries = [catalogue.find(n) for n in names] or list(catalogue.weights)
    failed = 0
    for entry in entries:
        if "://" in entry.url and not names:
            continue
        try:
            path = local_file(entry)
        except WeightsError as error:
            failed += 1
            click.echo(f"FAIL {entry.name}: {error}")
        else:
            click.echo(f"ok   {entry.name}  {entry.sha256[:16]}  {path.name}")
    if failed:
        raise SystemExit(1)
