"""The conformance suite over every block of the first-party plugins."""

from attnzoo.testing import parametrize_blocks, run_check


@parametrize_blocks(plugin="vision")
def test_vision_block(subject, check):
    run_check(subject, check)


@parametrize_blocks(plugin="sequence")
def test_sequence_block(subject, check):
    run_check(subject, check)


def test_every_card_has_dialects_that_are_valid():
    import attnzoo

    for entry in attnzoo.default_registry():
        if entry.card.path is not None:
            _ = entry.card.dialects


def test_no_plugin_has_a_bad_card():
    import attnzoo

    faults = [f"{f.path}: {f.error}" for p in attnzoo.default_registry().plugins for f in p.faults]
    assert not faults
