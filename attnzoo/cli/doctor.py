"""``attnzoo doctor``: every problem with its mend."""

import json
from dataclasses import asdict
from typing import Any

import click

__all__ = ["command"]


@click.command("doctor")
@click.option("--plugin", "only", multiple=True, help="Look at this plugin only; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(only: tuple[str, ...], as_json: bool) -> None:
    """Look for problems in the installed plugins, cards, blocks and weights.

    Exit code 0: none; 1: there are problems, each printed with its mend; 2: the project's allow-list cannot be read.
    """
    from attnzoo.card import fold
    from attnzoo.doctor import examine
    from attnzoo.errors import NameNotFound, did_you_mean
    from attnzoo.project import read_permission
    from attnzoo.registry import default_registry

    registry = default_registry()
    names = [p.name for p in registry.plugins]
    for name in only:
        if fold(name) not in names:
            message = f"no plugin named {name!r}{did_you_mean(name, names)}; see: attnzoo plugins"
            raise NameNotFound(message)
    problems = examine(registry, read_permission(), only)
    plugins = [p for p in registry.plugins if not only or p.name in map(fold, only)]
    if as_json:
        facts = {"plugins": [_row(p) for p in plugins], "problems": [asdict(p) for p in problems]}
        click.echo(json.dumps(facts, indent=2))
    else:
        _print(plugins, problems)
    if problems:
        raise SystemExit(1)


def _row(plugin: Any) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": plugin.status,
        "blocks": sorted({f"{plugin.name}/{c.name}" for c in plugin.cards}),
        "error": plugin.error,
    }


def _print(plugins: list[Any], problems: list[Any]) -> None:
    for plugin in plugins:
        state = plugin.status if plugin.status != "ok" else f"{len({c.name for c in plugin.cards})} blocks"
        click.echo(f"plugin {plugin.name} ({plugin.distribution} {plugin.version}): {state}")
    for problem in problems:
        click.echo(f"problem: {problem.subject}: {problem.found}")
        if problem.traceback:
            click.echo("".join(f"    {line}\n" for line in problem.traceback.splitlines()), nl=False)
        click.echo(f"    to mend: {problem.mend}")
    click.echo("no problems" if not problems else f"{len(problems)} problem{'s' if len(problems) > 1 else ''}")
