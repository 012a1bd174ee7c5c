"""Write docs/reference/{api,errors,commands}.md from the code.

python docs/tools/reference.py          # write
python docs/tools/reference.py --check  # exit 1 if a page is not what the code says
"""

import argparse
import inspect
import sys
from importlib import import_module
from pathlib import Path

import click

import attnzoo
from attnzoo import errors, layers
from attnzoo.cli import main

REFERENCE = Path(__file__).parents[1] / "reference"
NOTE = "<!-- Written by docs/tools/reference.py; change the code's docstrings instead. -->"


def api_page() -> str:
    """Return the page of the public names: signature and docstring of each."""
    parts = [NOTE, "# Public names", "Everything here is `attnzoo.<name>`; names are loaded when they are first used."]
    named = {name: getattr(attnzoo, name) for name in sorted(attnzoo.__all__, key=str.lower)}
    named |= {f"layers.{name}": getattr(layers, name) for name in layers.__all__}  # for the authors of blocks
    for name, value in named.items():
        parts.append(f"## {name}")
        if callable(value) and not inspect.isclass(value) and hasattr(value, "__name__"):
            parts.append(f"```python\n{name}{_signature(value)}\n```")
        doc = inspect.getdoc(value) or ""
        if doc:
            parts.append(f"```text\n{doc}\n```")
    return "\n\n".join(parts) + "\n"


def _signature(value: object) -> str:
    return str(inspect.signature(value)).replace("'", "").replace('"', "")  # type: ignore[arg-type]


def errors_page() -> str:
    """Return the page of the error classes."""
    parts = [NOTE, "# Errors", "```text\n" + (inspect.getdoc(errors) or "") + "\n```"]
    for name in errors.__all__:
        value = getattr(errors, name)
        if inspect.isclass(value):
            bases = ", ".join(b.__name__ for b in value.__bases__)
            parts.append(f"## {name}\n\n`{name}({bases})`: {inspect.getdoc(value)}")
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    """Return the page of the commands: what each prints for --help."""
    parts = [NOTE, "# Commands"]
    context = click.Context(main, info_name="attnzoo")
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        parts.append(f"## attnzoo {name}\n\n```text\n{_help(command, name, context)}\n```")
        if isinstance(command, click.Group):
            inner = click.Context(command, info_name=name, parent=context)
            for sub in command.list_commands(inner):
                subcommand = command.get_command(inner, sub)
                assert subcommand is not None
                parts.append(f"### attnzoo {name} {sub}\n\n```text\n{_help(subcommand, sub, inner)}\n```")
    return "\n\n".join(parts) + "\n"


def _help(command: click.Command, name: str, parent: click.Context) -> str:
    return command.get_help(click.Context(command, info_name=name, parent=parent, terminal_width=96)).strip()


PAGES = {"api.md": api_page, "errors.md": errors_page, "commands.md": commands_page}


def run() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    import_module("attnzoo.api")
    stale = [
        name
        for name, page in PAGES.items()
        if not (REFERENCE / name).exists() or (REFERENCE / name).read_text() != page()
    ]
    if check and stale:
        sys.exit(f"not what the code says: {', '.join(stale)}; run python docs/tools/reference.py")
    for name in stale:
        (REFERENCE / name).write_text(PAGES[name]())


if __name__ == "__main__":
    run()
