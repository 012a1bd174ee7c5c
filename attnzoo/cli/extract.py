"""``attnzoo extract FILE SITE -o OUT``: cut one block out of a checkpoint."""

from pathlib import Path
from typing import Any

import click

__all__ = ["command"]


@click.command("extract")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("site")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The safetensors file to write.")
@click.option("--block", help="Which block, where several fit.")
@click.option("--dialect", help="Which dialect, where several fit.")
@click.option("--arg", "args", multiple=True, metavar="NAME=VALUE", help="An argument that tensors cannot tell.")
@click.option("--licence", default="", help="Licence of the checkpoint's weights, kept in the file.")
@click.option("--source", default="", help="Where the checkpoint comes from, kept in the file.")
def command(
    file: Path,
    site: str,
    output: Path,
    block: str | None,
    dialect: str | None,
    args: tuple[str, ...],
    licence: str,
    source: str,
) -> None:
    """Cut the block at SITE out of the checkpoint FILE into a safetensors file that describes itself.

    The file keeps the checkpoint's sha256, the site, the dialect and the licence.
    """
    from attnzoo.registry import default_registry
    from attnzoo.weights.extract import extract

    found = extract(
        file,
        site,
        output,
        default_registry(),
        block=block,
        dialect=dialect,
        arguments=dict(map(_argument, args)),
        licence=licence,
        source=source,
    )
    values = ", ".join(f"{k}={v!r}" for k, v in found.args.items())
    click.echo(f"{output}: {found.block}, {values}")
    for name, value in found.assumed.items():
        click.echo(f"    assumed {name}={value!r}, which tensors cannot tell; --arg {name}=… says otherwise")


def _argument(text: str) -> tuple[str, Any]:
    from attnzoo.yaml_reader import plain, read_yaml

    name, equals, value = text.partition("=")
    if not equals or not name:
        message = f"--arg {text!r}: expected NAME=VALUE"
        raise click.UsageError(message)
    documents = read_yaml(value, f"--arg {name}")
    return name.strip(), plain(documents[0]) if documents else None
