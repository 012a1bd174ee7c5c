"""``attnzoo build SPEC``: build what a spec names, and save it if asked to."""

from pathlib import Path

import click

__all__ = ["command"]


@click.command("build")
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--save", type=click.Path(path_type=Path), help="Write the block to this safetensors file.")
@click.option("--locked", is_flag=True, help="Refuse anything but what the lock file beside SPEC records.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=None, help="Seed of the initial weights.")
def command(spec: Path, save: Path | None, locked: bool, seed: int | None) -> None:
    """Build the block that the YAML file SPEC names, print it, and save it if asked to."""
    import torch

    import attnzoo
    from attnzoo.spec import InsertSpec, check_spec, write_spec
    from attnzoo.spec_reader import read_spec

    read = read_spec(spec)
    if locked:
        from attnzoo.lock import check_lock, lock_path

        check_lock([read], attnzoo.default_registry(), lock_path(spec))
    if isinstance(read, InsertSpec):
        check_spec(read, attnzoo.default_registry(), given={"channels": 64, "embed_dim": 64})
        click.echo(f"{spec}: a valid insert; use attnzoo.insert(model, {str(spec)!r})")
        return
    if seed is not None:
        torch.manual_seed(seed)
    block = attnzoo.build(read)
    click.echo(write_spec(read).rstrip())
    click.echo(str(block))
    click.echo(f"{sum(p.numel() for p in block.parameters())} parameters")
    if save is not None:
        attnzoo.save(block, save)
        click.echo(f"saved {save}")
