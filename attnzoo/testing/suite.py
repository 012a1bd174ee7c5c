"""The list of checks, and how a plugin's tests, ``attnzoo check`` and our own tests run them."""

import re
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

from attnzoo.errors import NameNotFound
from attnzoo.registry import Registry, default_registry
from attnzoo.testing import attention_checks, build_checks, forward_checks, gradient_checks
from attnzoo.testing.subject import CheckFailure, Subject, subjects_of

__all__ = ["CHECKS", "SLOW_CHECKS", "Outcome", "parametrize_blocks", "run_check", "run_suite"]

Check = Callable[[Subject], None]

CHECKS: tuple[Check, ...] = (
    build_checks.builds_from_yaml,
    forward_checks.shapes,
    forward_checks.batch_of_one,
    forward_checks.samples_do_not_mix,
    gradient_checks.gradients,
    forward_checks.input_unchanged,
    forward_checks.deterministic,
    forward_checks.float64,
    forward_checks.bfloat16,
    forward_checks.float16_autocast,
    forward_checks.channels_last,
    attention_checks.masks,
    attention_checks.maps,
    build_checks.meta_device,
    build_checks.save_and_load,
    build_checks.wrong_arguments,
)
SLOW_CHECKS: tuple[Check, ...] = (build_checks.exports, build_checks.compiles)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one check on one subject: ``passed``, ``failed`` or ``exempt`` (with the card's reason)."""

    subject: str
    check: str
    status: str
    found: str = ""
    input: str = ""
    mend: str = ""


def run_check(subject: Subject, check: Check) -> None:
    """Run one check in a test; an exemption of the card skips it with its reason.

    Raises:
        CheckFailure: The block fails the check.
    """
    reason = subject.card.exempt.get(check.__name__)
    if reason:
        import pytest

        pytest.skip(f"{subject.id}: exempt from {check.__name__}: {reason}")
    with torch.random.fork_rng(devices=[]):
        check(subject)


def run_suite(
    subjects: Iterable[Subject], checks: Iterable[Check] = (*CHECKS, *SLOW_CHECKS), *, shrink: bool = False
) -> list[Outcome]:
    """Run checks on subjects and return every outcome; nothing is raised.

    ``shrink`` tries a failed check again on smaller inputs and reports the smallest that fails in the same way.
    """
    checks = tuple(checks)
    return [_smallest(s, c, _outcome(s, c)) if shrink else _outcome(s, c) for s in subjects for c in checks]


def _smallest(subject: Subject, check: Check, outcome: Outcome) -> Outcome:
    """Return the outcome on the smallest input that fails like ``outcome``."""
    if outcome.status != "failed" or not outcome.input or check in SLOW_CHECKS:
        return outcome
    for limit in (1, 2, 3, 4):
        smaller = _outcome(replace(subject, limit=limit), check)
        if smaller.status == "failed" and _without_numbers(smaller.found) == _without_numbers(outcome.found):
            return smaller
    return outcome


def _without_numbers(text: str) -> str:
    return re.sub(r"[-+.\de]+", "", text)


def _outcome(subject: Subject, check: Check) -> Outcome:
    reason = subject.card.exempt.get(check.__name__)
    if reason:
        return Outcome(subject.id, check.__name__, "exempt", reason)
    try:
        with torch.random.fork_rng(devices=[]):
            check(subject)
    except CheckFailure as failure:
        return Outcome(subject.id, check.__name__, "failed", failure.found, failure.input, failure.mend)
    except Exception as error:
        # A block can fail in ways no check foresees; the report must still name it.
        place = traceback.extract_tb(error.__traceback__)[-1]
        found = f"{type(error).__name__}: {error} (at {place.name}, line {place.lineno})"
        return Outcome(subject.id, check.__name__, "failed", found, mend="mend the block so that the check can run")
    return Outcome(subject.id, check.__name__, "passed")


def parametrize_blocks(
    plugin: str | None = None, block: str | None = None, registry: Registry | None = None, slow: bool = True
) -> Any:
    """Return a decorator that runs a test ``test(subject, check)`` for every block and check.

    Args:
        plugin: Only the blocks of this plugin.
        block: Only this block.
        registry: Where to take the blocks from; by default what is installed.
        slow: Include what is marked ``slow``: the checks that take seconds, on the first example of each card, and the
            other checks on its further examples.
    """
    import pytest

    subjects = subjects_of(registry or default_registry(), plugin, block)
    if not subjects:
        message = f"no blocks of plugin {plugin!r} to test, expected an installed plugin; see: attnzoo doctor"
        raise NameNotFound(message)
    first = [s for s in subjects if "#" not in s.id]
    fast = [pytest.param(s, c, id=f"{s.id}-{c.__name__}") for s in first for c in CHECKS]
    later = [(s, c) for s in first for c in SLOW_CHECKS] + [(s, c) for s in subjects if "#" in s.id for c in CHECKS]
    marked = [pytest.param(s, c, id=f"{s.id}-{c.__name__}", marks=pytest.mark.slow) for s, c in later]
    return pytest.mark.parametrize(("subject", "check"), fast + (marked if slow else []))
