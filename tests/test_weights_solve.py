"""Arguments from shapes: what is told is so, and what could be otherwise is untold."""

import pytest
import torch

import attnzoo
from attnzoo.arguments import full_arguments
from attnzoo.builder import spec_of
from attnzoo.weights.extract import extract
from attnzoo.weights.foreign import foreign_tensors
from attnzoo.weights.solve import solve


def solution(name, dialect, **arguments):
    registry = attnzoo.default_registry()
    entry = registry.find(name)
    tensors = foreign_tensors(attnzoo.create(name, **arguments), dialect, registry)
    return solve(entry, entry.card.dialects[dialect], {k: tuple(v.shape) for k, v in tensors.items()})


def test_heads_and_their_width_that_make_one_size_are_both_untold():
    found = solution(
        "linformer", "lucidrains", embed_dim=60, max_len=64, compressed_len=3, num_heads=3, head_dim=30, share_kv=True
    )
    assert {"num_heads", "head_dim"} <= found.untold.keys()
    assert found.args["embed_dim"] == 60


def test_an_option_that_only_a_mere_stand_in_forbids_is_untold():
    found = solution(
        "t5-attention", "t5", embed_dim=60, num_heads=10, head_dim=25, num_buckets=40, bidirectional=False, causal=True
    )
    assert {"bidirectional", "causal"} <= found.untold.keys()


def test_a_window_that_could_as_well_be_turned_is_untold():
    found = solution("swin-window-attention", "timm", embed_dim=36, window_size=[4, 1], num_heads=3)
    assert "window_size" in found.untold
    assert found.args["num_heads"] == 3


def test_a_number_below_nought_that_moves_nothing_is_untold():
    arguments = {"channels": 60, "feature_size": [6, 8], "num_heads": 10, "kernel_size": 5, "form": "dat"}
    found = solution("dat-deform-attn", "leaplabthu-v1", **arguments, offset_range=2.0)
    assert "offset_range" in found.untold


def test_a_list_of_words_that_has_the_tensors_of_one_is_untold_with_what_it_allows():
    arguments = {"channels": 12, "whiten": ["channel", "batch-norm"], "unary": "query"}
    found = solution("disentangled-non-local", "yinmh17", **arguments)
    assert {"whiten", "unary"} <= found.untold.keys()
    assert found.args["output"] == "none"


@pytest.mark.parametrize("size", [(6, 8), (5, 3)])
def test_a_map_that_is_not_square_is_found_and_extracted(tmp_path, size):
    path, out = tmp_path / "bot.safetensors", tmp_path / "out.safetensors"
    block = attnzoo.create("bot-mhsa", channels=48, feature_size=size, num_heads=2)
    attnzoo.export(block, path, "lucidrains", site="mhsa")
    extract(path, "mhsa", out, attnzoo.default_registry(), arguments={"num_heads": 2}, block="bot-mhsa")
    again = attnzoo.load(out)
    arguments = full_arguments(type(again), spec_of(again).args)
    assert tuple(arguments["feature_size"]) == size
    x = torch.randn(1, 48, *size)
    assert torch.equal(again(x), block(x))
