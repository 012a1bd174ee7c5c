"""``attnzoo uninstall PLUGIN…``: remove plugins with pip."""

import click

__all__ = ["command"]


@click.command("uninstall")
@click.argument("plugins", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def command(plugins: tuple[str, ...], yes: bool) -> None:
    """Remove PLUGINS, named by plugin or distribution. What is no plugin is refused."""
    from attnzoo.installing import distribution_of, pip_uninstall, plugins_in

    distributions = list(dict.fromkeys(distribution_of(name) for name in plugins))
    names = plugins_in(distributions)
    if not yes:
        click.confirm(f"remove {', '.join(distributions)} with the plugins {', '.join(names)}?", abort=True)
    pip_uninstall(distributions)
    click.echo(f"removed {', '.join(distributions)}")
