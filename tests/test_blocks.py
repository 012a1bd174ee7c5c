"""The conformance suite over every block of the first-party plugins."""

import fnmatch

import pytest

import attnzoo
from attnzoo.testing import CHECKS, SLOW_CHECKS, parametrize_blocks, run_check, subjects_of
from attnzoo.testing.gradient_checks import silent_parameters
from attnzoo.testing.subject import subjects_of_entry


@parametrize_blocks(plugin="vision")
def test_vision_block(subject, check):
    run_check(subject, check)


@parametrize_blocks(plugin="sequence")
def test_sequence_block(subject, check):
    run_check(subject, check)


def test_every_card_has_dialects_that_are_valid():
    for entry in attnzoo.default_registry():
        if entry.card.path is not None:
            _ = entry.card.dialects


def test_no_plugin_has_a_bad_card():
    faults = [f"{f.path}: {f.error}" for p in attnzoo.default_registry().plugins for f in p.faults]
    assert not faults


@pytest.mark.slow
def test_every_parameter_acts_on_numbers_that_the_checks_compare():
    """Where a parameter has no effect on what an example gives, comparing that proves nothing of the parameter."""
    silent = {s.id: _silent(s) for s in subjects_of(attnzoo.default_registry())}
    assert not {k: v for k, v in silent.items() if v}


def _silent(subject):
    cases = subject.cases(subject.sizes())
    silent = set.intersection(*(silent_parameters(subject, c, seed=0, training=False) for c in cases))
    return {name for name in silent if subject.needs_gradient(name)}


@pytest.mark.slow
def test_every_exempted_parameter_is_without_effect_in_an_example():
    stale = []
    for entry in attnzoo.default_registry():
        subjects = subjects_of_entry(entry)
        silent = {n for s in subjects for n in silent_parameters(s, s.inputs(s.sizes()), seed=0, training=False)}
        keys = [k.removeprefix("gradients of ") for k in entry.card.exempt if k.startswith("gradients of ")]
        stale += [f"{entry.id}: {k}" for k in keys if not fnmatch.filter(silent, k)]
    assert not stale


def test_exemptions_name_checks_that_there_are():
    checks = {c.__name__ for c in (*CHECKS, *SLOW_CHECKS)}
    keys = {f"{e.id}: {k}": k for e in attnzoo.default_registry() for k in e.card.exempt}
    assert not [name for name, k in keys.items() if k.removeprefix("gradients of ") == k and k not in checks]
