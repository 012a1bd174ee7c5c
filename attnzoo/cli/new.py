"""``attnzoo new NAME``: write a plugin package."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from attnzoo.card import Card

__all__ = ["command"]

_LICENCES = ("Apache-2.0", "MIT", "BSD-3-Clause", "Proprietary")


@click.command("new")
@click.argument("name")
@click.option("--from", "source", help="A Python file with your nn.Module: gate.py, or gate.py:Gate.")
@click.option(
    "--licence",
    type=click.Choice(_LICENCES, case_sensitive=False),
    prompt="Licence of your code",
    default="Apache-2.0",
    help="Licence of your code; asked for when it is left out.",
)
@click.option("--author", help="Who holds the copyright; by default 'the authors of' the plugin.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to write; by default ./attnzoo-NAME.")
def command(name: str, source: str | None, licence: str, author: str | None, folder: Path | None) -> None:
    """Write the plugin package attnzoo-NAME: pyproject, block, card, registry file, tests, README, licence, CI.

    It installs, passes its tests and shows up in attnzoo list as it is. With --from the block is your own class; its
    arguments and shapes are guessed from its signature and trial runs, and the file is run for that.
    """
    from attnzoo.scaffold import names_of, plugin_files, template_card, write_plugin

    names = names_of(name)
    card, path = _card_of(source) if source else (template_card(names), None)
    author = author or f"the authors of {names.distribution}"
    folder = folder or Path(names.distribution)
    files = plugin_files(names, card, licence=licence, author=author, source=path)
    write_plugin(folder, files)
    for file in sorted(files):
        click.echo(f"wrote {folder / file}")
    click.echo(f"next:  attnzoo install -e {folder}")
    click.echo(f"       attnzoo check {names.plugin}")
    click.echo(f"       pytest {folder}")


def _card_of(source: str) -> "tuple[Card, Path]":
    """Return a card for the class in ``FILE.py`` or ``FILE.py:Class``, and the file."""
    from attnzoo.errors import NameNotFound
    from attnzoo.testing.infer import infer_card
    from attnzoo.testing.target import load_file, module_classes

    path_text, _, class_name = source.partition(".py:") if ".py:" in source else (source, "", "")
    path = Path(f"{path_text}.py" if class_name else path_text)
    tops, helpers = module_classes(load_file(path))
    classes = [c for c in (*tops, *helpers) if c.__name__ == class_name] if class_name else tops
    if len(classes) != 1:
        names = ", ".join(c.__name__ for c in (*tops, *helpers)) or "none"
        message = f"{source}: its nn.Module classes are {names}, expected one to be named; write {path}:ClassName"
        raise NameNotFound(message)
    return infer_card(classes[0]), path
