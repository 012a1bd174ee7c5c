"""The conformance suite of attnzoo over every block of this plugin, and its pretrained weights."""

import torch

import attnzoo
from attnzoo.testing import parametrize_blocks, run_check


@parametrize_blocks(plugin="acme")
def test_block(subject, check):
    run_check(subject, check)


def test_the_pretrained_gate_lets_bright_pixels_through():
    block = attnzoo.create("acme/brightness-gate", weights="brightness-gate/trained")
    bright, dark = torch.ones(1, 8, 1, 1), -torch.ones(1, 8, 1, 1)
    assert block.attention(bright)["pixel"].item() > 0.9
    assert block.attention(dark)["pixel"].item() < 0.1
