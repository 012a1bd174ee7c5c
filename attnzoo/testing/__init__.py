"""The conformance suite: what every block must do, for first and third parties.

In a plugin's tests::

    from attnzoo.testing import parametrize_blocks, run_check

    @parametrize_blocks(plugin="my-plugin")
    def test_block(subject, check):
        run_check(subject, check)

The names are loaded when they are first used: pytest imports this package in every run, and must not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnzoo.testing.subject import CheckFailure, Subject, subjects_of
    from attnzoo.testing.suite import CHECKS, SLOW_CHECKS, Outcome, parametrize_blocks, run_check, run_suite

_HOMES = {
    "CHECKS": "suite",
    "CheckFailure": "subject",
    "Outcome": "suite",
    "SLOW_CHECKS": "suite",
    "Subject": "subject",
    "parametrize_blocks": "suite",
    "run_check": "suite",
    "run_suite": "suite",
    "subjects_of": "subject",
}

__all__ = [
    "CHECKS",
    "SLOW_CHECKS",
    "CheckFailure",
    "Outcome",
    "Subject",
    "parametrize_blocks",
    "run_check",
    "run_suite",
    "subjects_of",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"attnzoo.testing.{_HOMES[name]}"), name)
    message = f"module 'attnzoo.testing' has no attribute {name!r}"
    raise AttributeError(message)
