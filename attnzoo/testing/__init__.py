"""The conformance suite: what every block must do, for first and third parties.

In a plugin's tests::

    from attnzoo.testing import parametrize_blocks, run_check

    @parametrize_blocks(plugin="my-plugin")
    def test_block(subject, check):
        run_check(subject, check)
"""

from attnzoo.testing.subject import CheckFailure, Subject, subjects_of
from attnzoo.testing.suite import CHECKS, SLOW_CHECKS, Outcome, parametrize_blocks, run_check, run_suite

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
