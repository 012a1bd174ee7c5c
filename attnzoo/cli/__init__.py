"""The command line: one file a command, loaded when the command is used. The only place that prints."""

import errno
from importlib import import_module
from typing import Any

import click

from attnzoo import __version__
from attnzoo.errors import AttnZooError, did_you_mean

__all__ = ["main"]

# Command name to one line of help. The command `name` is the function `command` in attnzoo/cli/<name>.py; it is
# imported only when it runs or shows its own help, so that `attnzoo --help` imports nothing else.
_COMMANDS = {
    "list": "List the blocks of the installed plugins.",
    "show": "Show one block: arguments, shapes, paper, dialects.",
    "build": "Build a block from a spec; save it if asked to.",
    "lock": "Record the plugins, contract versions and weights of a spec.",
    "schema": "Print the JSON Schema of specs, with the installed blocks.",
    "weights": "List, fetch and verify pretrained weights.",
    "scan": "Find the blocks inside a checkpoint.",
    "extract": "Cut one block out of a checkpoint.",
    "search": "Search blocks by words, installed or not.",
    "install": "Install plugins with pip, and look at what came.",
    "uninstall": "Remove plugins.",
    "plugins": "List the installed plugins.",
    "doctor": "Look for problems, each with its mend.",
    "new": "Write a plugin package, for a module of yours if you like.",
    "check": "Run the conformance suite on a block, a plugin or a Python file.",
    "verify": "Compare blocks with golden files of their authors' code.",
    "sites": "List where blocks can go in a model.",
    "insert": "Try an insert spec on a model; print what went where and what it costs.",
    "profile": "Measure what a block, or a model with blocks, costs on this machine.",
    "demo": "Classify images with pretrained attention blocks and draw their maps.",
}


class _Commands(click.Group):
    """A group whose commands are imported when they are used, and whose errors are attnzoo's."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_COMMANDS]  # the submodule `list` takes the name of the built-in function here

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"attnzoo.cli.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            message = f"no command {args[0]!r}{did_you_mean(args[0], _COMMANDS)}"
            raise click.UsageError(message, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*_COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AttnZooError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
        except OSError as error:
            if error.errno in (None, errno.EPIPE):  # a reader that went away is click's to handle
                raise
            click.echo(
                f"error: {error.filename or 'a file'}: {error.strerror}; check the path and its rights", err=True
            )
            ctx.exit(2)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="attnzoo")
def main() -> None:
    """Attention blocks by name: build them from YAML, load pretrained weights, check them against their papers."""
