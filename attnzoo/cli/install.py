"""``attnzoo install REQUIREMENT…``: pip, then a look at what came."""

from typing import Any

import click

__all__ = ["command"]


@click.command("install", context_settings={"ignore_unknown_options": True})
@click.argument("requirements", nargs=-1, required=True, type=click.UNPROCESSED)
def command(requirements: tuple[str, ...]) -> None:
    """Install plugins with pip in this environment, then discover and examine them in a new Python.

    REQUIREMENTS are what pip takes: names, folders, wheels, addresses, and pip's own options (-e, --no-deps, …).
    Exit code 1: a plugin came with problems; it stays installed, and the command that removes it is printed.
    """
    from attnzoo.errors import PluginError
    from attnzoo.installing import examine_afresh, pip_install, plugins_in

    came = pip_install(requirements)
    names = plugins_in(came)
    if not came:
        click.echo("nothing new: all of it was installed already; see: attnzoo plugins")
        return
    if not names:
        click.echo(f"{', '.join(came)} came, and none is a plugin (no entry point in the group 'attnzoo')")
        raise SystemExit(1)
    try:
        found = examine_afresh(names)
    except PluginError as error:
        click.echo(f"problem: {error}")
        click.echo(f"    to remove what came: attnzoo uninstall {' '.join(names)}")
        raise SystemExit(1) from error
    _print(found)
    if found.problems:
        click.echo(f"to remove what came: attnzoo uninstall {' '.join(names)}")
        raise SystemExit(1)


def _print(found: Any) -> None:
    for row in found.plugins:
        state = f"{len(row['blocks'])} blocks" if row["status"] == "ok" else row["status"]
        click.echo(f"plugin {row['name']} ({row['distribution']} {row['version']}): {state}")
        for block in row["blocks"]:
            click.echo(f"    {block}")
    for problem in found.problems:
        click.echo(f"problem: {problem['subject']}: {problem['found']}")
        click.echo(f"    to mend: {problem['mend']}")
