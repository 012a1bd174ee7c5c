"""Choosing modules of a host."""

import re

import pytest
from hosts import make_host
from hosts.blocks import order
from hosts.resnet import BasicBlock
from torch import nn

from attnzoo.errors import NameNotFound
from attnzoo.surgery import insert, select

BLOCKS = ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]


@pytest.mark.parametrize(
    ("at", "names"),
    [
        ("layer1.0", ["layer1.0"]),
        ("layer[12].1", ["layer1.1", "layer2.1"]),
        ("layer[!1].?", ["layer2.0", "layer2.1"]),
        ("layer*.*", BLOCKS),
        ("layer1.*.bn?", ["layer1.0.bn1", "layer1.0.bn2", "layer1.1.bn1", "layer1.1.bn2"]),
        ("**.bn1", ["bn1", *(f"{name}.bn1" for name in BLOCKS)]),
        ("re:layer[12]\\.[01]", BLOCKS),
        (re.compile(r"layer\d\.1"), ["layer1.1", "layer2.1"]),
        ("class:BasicBlock", BLOCKS),
        (BasicBlock, BLOCKS),
        ("class:BasicBlock.bn2", [f"{name}.bn2" for name in BLOCKS]),
        (lambda name, module: isinstance(module, nn.Linear), ["fc"]),
        (["layer2.1", "layer1.0", "layer1.*"], ["layer1.0", "layer1.1", "layer2.1"]),
        ("", [""]),
    ],
)
def test_a_rule_chooses_in_the_hosts_order(at, names):
    assert select(make_host("resnet"), at) == names


def test_a_star_stays_within_one_part_of_the_name():
    with pytest.raises(
        NameNotFound, match=re.escape("at '*.bn2': no module of ResNet matches; did you mean '**.*.bn2'?")
    ):
        select(make_host("resnet"), "*.bn2")


def test_two_stars_at_the_end_choose_everything_below():
    assert set(select(make_host("resnet"), "layer1.1.**")) == {
        f"layer1.1.{x}" for x in ("conv1", "bn1", "relu", "conv2", "bn2")
    }


@pytest.mark.parametrize(
    ("at", "text"),
    [
        ("layer5", "at 'layer5': no module of ResNet matches; did you mean 'layer2' or 'layer1'?"),
        ("layer1.0.bm1", "at 'layer1.0.bm1': no module of ResNet matches; did you mean 'layer1.0.bn1'"),
        ("class:BasicBlok", "at 'class:BasicBlok': no module of ResNet matches; did you mean 'class:BasicBlock'?"),
        ("zzz", "at 'zzz': no module of ResNet matches; its parts are conv1, bn1, relu, layer1, layer2, avgpool, fc"),
        ("re:(", "at 're:(': not a regular expression (missing ), unterminated subpattern at position 0)"),
    ],
)
def test_no_match_is_an_error_with_near_matches(at, text):
    with pytest.raises(NameNotFound, match=re.escape(text)):
        select(make_host("resnet"), at)


def test_inserted_modules_are_never_chosen():
    host = make_host("resnet")
    before = select(host, "**")
    insert(host, order("resnet"))
    assert select(host, "**") == before


def test_a_rule_of_another_kind_is_refused():
    with pytest.raises(TypeError, match=r"at 3: a name, glob, 're:…', 'class:…', class, function or list of these"):
        select(make_host("resnet"), [3])
