"""``attnzoo verify FILE…``: compare blocks with golden files."""

from pathlib import Path

import click

__all__ = ["command"]


@click.command("verify")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--quiet", "-q", is_flag=True, help="Print only what does not match, and the sum.")
def command(files: tuple[Path, ...], quiet: bool) -> None:
    """Compare blocks with golden FILES of their authors' code.

    For each file: find the block and dialect by the file's metadata, build the block, load the reference's tensors, and
    compare output, input gradients, maps and buffers. Exit code 1 if anything is over its tolerance, 0 if all match.
    """
    from attnzoo.golden import verify
    from attnzoo.registry import default_registry

    registry = default_registry()
    failed = 0
    for path in files:
        verdict = verify(path, registry)
        failed += not verdict.ok
        if not (quiet and verdict.ok):
            _print(verdict)
    click.echo(f"{len(files) - failed} of {len(files)} files match")
    if failed:
        raise SystemExit(1)


def _print(verdict: "object") -> None:
    from attnzoo.golden import Verdict

    assert isinstance(verdict, Verdict)
    mark = "ok  " if verdict.ok else "FAIL"
    click.echo(f"{mark} {verdict.path.name}")
    if verdict.block:
        click.echo(f"     {verdict.block} (dialect {verdict.dialect}) {dict(verdict.arguments or {})}")
    if verdict.problem:
        click.echo(f"     {verdict.problem}")
        return
    for kind in ("output", "grad_input", "map", "buffer"):
        group = [c for c in verdict.comparisons if c.name.startswith(kind)]
        if group:
            worst = max(group, key=lambda c: (not c.ok, c.error))
            click.echo(
                f"     {kind}: error {worst.error:.1e} of {worst.tolerance:.0e} ({worst.name}) {worst.note}".rstrip()
            )
    for name, reason in (verdict.unmapped or {}).items():
        click.echo(f"     map.{name}: not compared: {reason}")
