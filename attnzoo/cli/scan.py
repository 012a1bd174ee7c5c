"""``attnzoo scan FILE``: find the blocks inside a checkpoint."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from attnzoo.weights.scan import Found

__all__ = ["command"]


@click.command("scan")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: Path, as_json: bool) -> None:
    """Find the blocks of all installed plugins inside the checkpoint FILE.

    FILE is a safetensors file (only its header is read), an index of several, a torch file (read without running
    code) or an ONNX file. For each block: where it is, which one, the arguments that its tensors tell, and those that
    they cannot tell.
    """
    from attnzoo.registry import default_registry
    from attnzoo.weights.checkpoint import open_checkpoint
    from attnzoo.weights.scan import scan_fully

    checkpoint = open_checkpoint(file)
    found, unsolved = scan_fully(checkpoint, default_registry())
    own = _own_spec(file) if checkpoint.format == "safetensors" else None
    if as_json:
        data = {
            "file": str(file),
            "format": checkpoint.format,
            "tensors": len(checkpoint.tensors),
            "sites": [f.data() for f in found],
            "unsolved": [asdict(u) for u in unsolved],
            "saved_by_attnzoo": own,
        }
        click.echo(json.dumps(data, indent=2, default=list))
        return
    if own is not None:
        click.echo(f"saved by attnzoo: {json.dumps(own)}; attnzoo.load({str(file)!r}) rebuilds it")
    for item in found:
        _print(item)
    for left in unsolved:
        click.echo(f"{left.site or '(whole file)'}  (not solved)")
        for reason in left.reasons:
            click.echo(f"    {reason}")
    ambiguous = sum(f.ambiguous for f in found)
    counts = f"{ambiguous} ambiguous, {len(unsolved)} not solved"
    click.echo(f"{len(found)} sites in {len(checkpoint.tensors)} tensors ({checkpoint.format}), {counts}")


def _own_spec(file: Path) -> "dict[str, Any] | None":
    """Return the spec of a file that describes itself."""
    from attnzoo.weights.store import read_description

    description = read_description(file)
    return None if description is None else description["spec"]


def _print(found: "Found") -> None:
    notes = [f"{found.tensors} tensors", found.dtype]
    notes += [f"the same tensors as {found.same_as}"] if found.same_as else []
    click.echo(f"{found.site or '(whole file)'}  ({', '.join(notes)})")
    if found.ambiguous:
        click.echo(f"    {len(found.readings)} readings fit; extract with --block or --dialect")
    for reading in found.readings:
        args = ", ".join(f"{k}={v!r}" for k, v in reading.args.items())
        click.echo(f"    {reading.block}: {args}  [{', '.join(reading.dialects)}]")
        if reading.untold:
            click.echo(f"        not told by tensors: {', '.join(reading.untold)}")
