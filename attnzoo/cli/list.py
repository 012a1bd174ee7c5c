"""``attnzoo list``: the blocks of the installed plugins."""

import json
from typing import Any

import click

__all__ = ["command"]


@click.command("list")
@click.option("--domain", help="Only this domain: channel, spatial, mixed, self, structure, temporal or sequence.")
@click.option("--plugin", help="Only the blocks of this plugin.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(domain: str | None, plugin: str | None, as_json: bool) -> None:
    """List the blocks of the installed plugins."""
    from attnzoo.card import fold
    from attnzoo.errors import NameNotFound, did_you_mean
    from attnzoo.registry import default_registry

    registry = default_registry()
    names = [p.name for p in registry.plugins]
    if plugin is not None and fold(plugin) not in names:
        message = f"no plugin named {plugin!r}{did_you_mean(plugin, names)}; see: attnzoo plugins"
        raise NameNotFound(message)
    entries = [e for e in registry.in_domain(domain) if plugin is None or fold(plugin) == e.plugin.name]
    if as_json:
        click.echo(json.dumps([_row(e) for e in entries], indent=2))
        return
    width = max((len(e.id) for e in entries), default=0)
    for entry in entries:
        click.echo(f"{entry.id:<{width}}  {entry.card.domain:<9}  {entry.card.summary}")
    broken = [p for p in registry.plugins if p.status in ("broken", "clash")]
    faults = sum(len(p.faults) for p in registry.plugins)
    click.echo(f"{len(entries)} blocks")
    if left_out := [p.name for p in registry.plugins if p.status == "blocked"]:
        click.echo(f"plugins left out here: {', '.join(left_out)}; see: attnzoo plugins", err=True)
    for plugin_ in broken:
        click.echo(f"plugin {plugin_.name} cannot be used: {plugin_.error}", err=True)
    if broken or faults:
        click.echo(f"{len(broken)} broken plugins, {faults} bad cards; see: attnzoo doctor", err=True)


def _row(entry: Any) -> dict[str, Any]:
    card = entry.card
    return {
        "id": entry.id,
        "aliases": list(card.aliases),
        "domain": card.domain,
        "summary": card.summary,
        "shape": card.shape,
        "version": card.version,
        "paper": dict(card.paper),
        "plugin": {"distribution": entry.plugin.distribution, "version": entry.plugin.version},
    }
