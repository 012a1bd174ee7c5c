"""``attnzoo check TARGET``: the conformance suite without a test file."""

import json
from dataclasses import asdict
from typing import Any

import click

from attnzoo.cli._options import mapping_of

__all__ = ["command"]


@click.command("check")
@click.argument("target")
@click.option("--args", help="For a file: arguments of the class, such as '{channels: 64, reduction: 8}'.")
@click.option("--shape", help="For a file: its shape contract, such as 'n c h w -> n c h w'.")
@click.option("--axes", help="For a file: the axes that arguments fix, such as '{c: channels}'.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--fast", is_flag=True, help="Leave out the checks that take seconds (export, compile).")
def command(target: str, args: str | None, shape: str | None, axes: str | None, as_json: bool, fast: bool) -> None:
    """Run the conformance suite on TARGET.

    TARGET is a block, a plugin, a package, a folder with a package, or a Python file (gate.py, gate.py:Gate) with an
    nn.Module, whose arguments and shapes are guessed from its signature. A file is run, as by python.

    Exit code 0: all passed; 1: a check failed; 2: TARGET could not be found or imported.
    """
    from attnzoo.registry import default_registry
    from attnzoo.testing import CHECKS, SLOW_CHECKS, run_suite
    from attnzoo.testing.infer import Wishes
    from attnzoo.testing.target import resolve_target

    wishes = Wishes(mapping_of(args, "--args"), shape, mapping_of(axes, "--axes"))
    found = resolve_target(target, default_registry(), wishes)
    checks = CHECKS if fast else (*CHECKS, *SLOW_CHECKS)
    outcomes = [*found.outcomes, *run_suite(found.subjects, checks, shrink=True)]
    if as_json:
        facts = {"target": target, "notes": found.notes, "outcomes": [asdict(o) for o in outcomes]}
        click.echo(json.dumps(facts, indent=2))
    else:
        _print(found.notes, outcomes)
    if any(o.status == "failed" for o in outcomes):
        raise SystemExit(1)


def _print(notes: list[str], outcomes: list[Any]) -> None:
    for note in notes:
        click.echo(f"note {note}")
    for outcome in outcomes:
        if outcome.status == "failed":
            click.echo(f"FAIL {outcome.subject} {outcome.check}: {outcome.found}")
            if outcome.input:
                click.echo(f"     with {outcome.input}")
            click.echo(f"     to mend: {outcome.mend}")
        elif outcome.status == "exempt":
            click.echo(f"note {outcome.subject} {outcome.check}: exempt: {outcome.found}")
    counts = {s: sum(o.status == s for o in outcomes) for s in ("passed", "failed", "exempt")}
    click.echo(", ".join(f"{number} {status}" for status, number in counts.items()))
