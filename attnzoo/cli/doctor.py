"""``attnzoo doctor``: every problem with its mend."""

import sys

import click

__all__ = ["command"]


@click.command("doctor")
def command() -> None:
    """Look for problems in the installed plugins, cards, blocks and weights. Exit code 1 if there are any."""
    from attnzoo.doctor import examine
    from attnzoo.registry import default_registry

    registry = default_registry()
    imported = "torch" in sys.modules
    for plugin in registry.plugins:
        state = plugin.status if plugin.status != "ok" else f"{len(plugin.cards)} blocks"
        click.echo(f"plugin {plugin.name} ({plugin.distribution} {plugin.version}): {state}")
    problems = examine(registry, imported)
    for problem in problems:
        click.echo(f"problem: {problem.subject}: {problem.found}")
        if problem.traceback:
            click.echo("".join(f"    {line}\n" for line in problem.traceback.splitlines()), nl=False)
        click.echo(f"    to mend: {problem.mend}")
    click.echo("no problems" if not problems else f"{len(problems)} problems")
    if problems:
        raise SystemExit(1)
