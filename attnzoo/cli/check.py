"""``attnzoo check TARGET``: the conformance suite without a test file."""

import json
from dataclasses import asdict

import click

__all__ = ["command"]


@click.command("check")
@click.argument("target")
@click.option("--json", "as_json", is_flag=True, help="Print the outcomes as JSON.")
@click.option("--fast", is_flag=True, help="Leave out the checks that take seconds (export, compile).")
def command(target: str, as_json: bool, fast: bool) -> None:
    """Run the conformance suite on TARGET, a block or plugin name. Exit code 1 if a check fails."""
    from attnzoo.registry import default_registry
    from attnzoo.testing import CHECKS, SLOW_CHECKS, run_suite, subjects_of

    registry = default_registry()
    is_plugin = any(p.name == target for p in registry.plugins)
    subjects = subjects_of(registry, plugin=target) if is_plugin else subjects_of(registry, block=target)
    outcomes = run_suite(subjects, CHECKS if fast else (*CHECKS, *SLOW_CHECKS))
    failed = [o for o in outcomes if o.status == "failed"]
    if as_json:
        click.echo(json.dumps([asdict(o) for o in outcomes], indent=2))
    else:
        for outcome in outcomes:
            if outcome.status == "failed":
                click.echo(f"FAIL {outcome.subject} {outcome.check}: {outcome.found}")
                if outcome.input:
                    click.echo(f"     with {outcome.input}")
                click.echo(f"     to mend: {outcome.mend}")
            elif outcome.status == "exempt":
                click.echo(f"note {outcome.subject} {outcome.check}: exempt: {outcome.found}")
        passed = sum(o.status == "passed" for o in outcomes)
        click.echo(f"{passed} passed, {len(failed)} failed, {len(outcomes) - passed - len(failed)} exempt")
    if failed:
        raise SystemExit(1)
