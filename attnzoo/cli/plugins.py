"""``attnzoo plugins``: the installed plugins."""

import json
from typing import Any

import click

__all__ = ["command"]


@click.command("plugins")
@click.option(
    "--all", "show_all", is_flag=True, help="Also plugins that are known but not installed, and blocked ones."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(show_all: bool, as_json: bool) -> None:
    """List the installed plugins: version, blocks, load time, where from."""
    from attnzoo.registry import default_registry
    from attnzoo.weights.catalogue import known_plugins

    rows = [_facts(p) for p in default_registry().plugins if show_all or p.status != "blocked"]
    installed = {p.distribution for p in default_registry().plugins}
    known = [k for k in known_plugins() if k.distribution not in installed] if show_all else []
    if as_json:
        more = [{"name": k.name, "distribution": k.distribution, "status": "not installed"} for k in known]
        click.echo(json.dumps(rows + more, indent=2))
        return
    for row in rows:
        state = "" if row["status"] == "ok" else f"  {row['status']}: {row['error']}"
        line = f"{row['name']:<12} {row['distribution']} {row['version']}  {row['blocks']} blocks"
        click.echo(f"{line}  loaded in {row['milliseconds']} ms from {row['from']}{state}")
    for plugin in known:
        click.echo(f"{plugin.name:<12} not installed; pip install {plugin.distribution}  ({plugin.summary})")
    if not rows:
        click.echo("no plugins are installed; pip install attnzoo-vision attnzoo-sequence")


def _facts(plugin: Any) -> dict[str, Any]:
    from attnzoo.plugins import where_from

    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": plugin.status,
        "blocks": len({card.name for card in plugin.cards}),
        "milliseconds": round(plugin.seconds * 1000, 1),
        "module": plugin.module,
        "from": where_from(plugin.distribution),
        "error": plugin.error,
    }
