"""``attnzoo lock SPEC``: record what a spec is built with."""

from pathlib import Path

import click

__all__ = ["command"]


@click.command("lock")
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; exit code 2 if the lock file says something else.")
def command(spec: Path, check: bool) -> None:
    """Record plugins, contract versions and weight hashes of the YAML file SPEC, in SPEC's lock file beside it.

    attnzoo build --locked refuses anything but what is recorded.
    """
    from attnzoo.lock import check_lock, lock_of, lock_path, write_lock
    from attnzoo.registry import default_registry
    from attnzoo.spec_reader import read_specs

    registry, specs, path = default_registry(), read_specs(spec), lock_path(spec)
    if check:
        check_lock(specs, registry, path)
        click.echo(f"{path}: everything is as it was locked")
        return
    lock = lock_of(specs, registry)
    write_lock(lock, path)
    counts = ", ".join(f"{kind} {len(lock[kind])}" for kind in ("plugins", "blocks", "weights"))
    click.echo(f"{path}: {counts}")
