"""Search over installed blocks and known plugins."""

from attnzoo.card import Card
from attnzoo.plugins import Plugin
from attnzoo.registry import Registry
from attnzoo.search import Hit, search
from attnzoo.weights.catalogue import KnownPlugin

SE = Card(
    "se", "SE", "m", "Scales channels.", "channel", "n c -> n c", {}, aliases=("squeeze-excite",), paper={"year": 2018}
)
GATE = Card("gate", "Gate", "m", "Like se, for positions.", "spatial", "n c -> n c", {})
REGISTRY = Registry((Plugin("vision", "attnzoo-vision", "1", "m", cards=(GATE, SE)),))
KNOWN = (KnownPlugin("points", "attnzoo-points", ("vector-attention",), "Attention on point clouds."),)


def ids(term):
    return [h.id for h in search(term, REGISTRY, KNOWN)]


def test_names_come_before_other_words():
    assert ids("se") == ["vision/se", "vision/gate"]


def test_every_word_must_occur_somewhere():
    assert ids("SE 2018") == ["vision/se"]
    assert ids("squeeze positions") == []


def test_a_plugin_that_is_not_installed_is_found_with_what_to_install():
    assert search("point clouds", REGISTRY, KNOWN) == [
        Hit("points/vector-attention", "Attention on point clouds.", "attnzoo-points")
    ]


def test_an_installed_plugin_is_not_listed_twice():
    assert len(search("gate", REGISTRY, (KnownPlugin("vision", "attnzoo-vision", ("gate",)),))) == 1
