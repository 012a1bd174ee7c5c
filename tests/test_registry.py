from dataclasses import replace

import pytest

from attnzoo.card import Card
from attnzoo.errors import AmbiguousName, NameNotFound
from attnzoo.plugins import Plugin
from attnzoo.registry import Registry


def card(name, *aliases, domain="channel"):
    return Card(name, "X", "m", "s", domain, "n c h w -> n c h w", {}, aliases=aliases)


def registry(**plugins):
    return Registry(tuple(Plugin(name, f"attnzoo-{name}", "1.0", "m", cards=cards) for name, cards in plugins.items()))


def message(call):
    with pytest.raises((NameNotFound, AmbiguousName)) as caught:
        call()
    return str(caught.value)


def test_a_block_is_found_by_id_short_name_alias_and_in_any_spelling():
    r = registry(vision=(card("se", "squeeze-excite"),))
    names = ["vision/se", "se", "SE", "squeeze_excite", "Squeeze-Excite", "vision/squeeze-excite"]
    assert [r.find(n).id for n in names] == ["vision/se"] * 6


def test_a_wrong_name_has_near_matches():
    r = registry(vision=(card("cbam"), card("simam")))
    assert message(lambda: r.find("cbma")) == "no block named 'cbma'; did you mean 'cbam'?"


def test_a_name_that_two_plugins_offer_names_both_ids():
    r = registry(a=(card("gate"),), b=(card("gate"),))
    text = "block 'gate': offered by 2 plugins, expected one; write 'a/gate' or 'b/gate'"
    assert message(lambda: r.find("gate")) == text
    assert r.find("b/gate").id == "b/gate"


def test_a_name_wins_over_another_blocks_alias():
    r = registry(a=(card("gate"),), b=(card("other", "gate"),))
    assert r.find("gate").id == "a/gate"


def test_an_unknown_domain_has_near_matches():
    text = message(lambda: registry().in_domain("chanel"))
    assert text.startswith("domain 'chanel': expected one of channel, spatial")
    assert "did you mean 'channel'?" in text


def test_without_plugins_the_error_says_what_to_install():
    assert "pip install attnzoo-vision attnzoo-sequence" in message(lambda: registry().find("zzz"))


def test_a_broken_card_is_named_when_its_block_is_asked_for(tmp_path):
    from attnzoo.card import CardFault
    from attnzoo.errors import CardError

    plugin = Plugin("a", "attnzoo-a", "1", "m", faults=(CardFault(tmp_path / "gate.yaml", CardError("bad")),))
    assert "the card gate.yaml of plugin 'a' cannot be used: bad" in message(lambda: Registry((plugin,)).find("gate"))


def test_with_card_leaves_the_old_registry_as_it_was():
    r = registry(a=(card("gate"),))
    more = r.with_card(replace(card("mine"), cls=object))
    assert (len(r.entries), len(more.entries), more.find("local/mine").id) == (1, 2, "local/mine")


def versions():
    cards = (replace(card("gate"), version=1), replace(card("gate"), version=3), card("other"))
    return registry(a=cards)


def test_a_name_means_its_newest_contract_version():
    assert [(e.id, e.card.version) for e in versions()] == [("a/gate", 3), ("a/other", 1)]
    assert versions().find("gate").card.version == 3


def test_an_older_contract_version_is_found_where_the_plugin_still_has_it():
    assert versions().pinned("gate", 1).find("a/gate").card.version == 1


def test_a_contract_version_that_is_gone_says_which_there_are():
    assert message(lambda: versions().pinned("gate", 2)) == (
        "block 'a/gate': contract version 2 was asked for, attnzoo-a 1.0 has 1 and 3; install an older release, "
        "or take `version:` out to use the newest formula"
    )
    assert "upgrade it" in message(lambda: versions().pinned("gate", 4))
