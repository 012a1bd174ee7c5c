"""``attnzoo weights``: list, fetch and verify pretrained weights."""

import json
import sys
from dataclasses import asdict

import click

__all__ = ["command"]


@click.group("weights")
def command() -> None:
    """List, fetch and verify pretrained weights."""


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
        trust = "prefix-verified" if len(entry.sha256) < 64 else "sha256"
        click.echo(f"{entry.name:<36} {entry.block:<28} {entry.licence:<12} {trust:<15} {metrics}".rstrip())
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
        if ":" in entry.url and not names:
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


@command.command("pull")
@click.argument("names", nargs=-1, required=True)
def pull_weights(names: tuple[str, ...]) -> None:
    """Fetch the weights NAMES, verify them, and print where they are; a download that was cut is continued."""
    from attnzoo.registry import default_registry
    from attnzoo.weights.catalogue import catalogue_of
    from attnzoo.weights.resolve import local_file

    catalogue = catalogue_of(default_registry())
    for entry in [catalogue.find(n) for n in names]:
        path = local_file(entry, _progress if sys.stderr.isatty() else None)
        click.echo(str(path))


def _progress(done: int, total: int | None) -> None:
    share = f" of {total / 1e6:.1f} MB" if total else " MB"
    click.echo(f"\r{done / 1e6:.1f}{share}", nl=False, err=True)


@command.command("where")
def where_weights() -> None:
    """Print the folder of fetched weights."""
    from attnzoo.weights.cache import cache_folder

    click.echo(str(cache_folder()))


@command.command("prune")
@click.option("--all", "everything", is_flag=True, help="Remove every fetched file, not only unfinished ones.")
def prune_weights(everything: bool) -> None:
    """Remove unfinished downloads, or with --all every fetched file."""
    from attnzoo.weights.cache import cache_folder

    removed = 0
    folder = cache_folder()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_file() and (everything or path.suffix in (".part", ".etag", ".lock")):
            removed += path.stat().st_size
            path.unlink(missing_ok=True)
    click.echo(f"{removed} bytes removed from {folder}")
