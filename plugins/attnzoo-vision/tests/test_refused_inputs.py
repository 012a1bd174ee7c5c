"""Inputs of other axes or channels than the card tells are refused, with the block, what was found and what to give."""

import re

import pytest
import torch
from torch import Tensor, nn

import attnzoo
from attnzoo.arguments import full_arguments
from attnzoo.testing import Subject, subjects_of

ANY_CHANNELS = ("bisenet-ffm", "eca")  # of the first block only those of both inputs together are told
RANKS = {"non-local": (3, 4, 5)}  # that a block takes, if not only the one of its card
UNCHECKED = {
    "affine-sampler": {"theta_n23"},
    "ms-deform-attn": {"reference_nlvk"},
    "ms-deform-core": {"value_nsgd", "place_nlgvp2", "weight_nlgvp"},
}


def cases() -> list:
    subjects = subjects_of(attnzoo.default_registry(), plugin="vision")
    return [
        pytest.param(subject, name, id=f"{subject.id}-{name}")
        for subject in subjects
        for name in subject.inputs(subject.sizes())
        if name not in UNCHECKED.get(subject.card.name, ())
    ]


def channel_axis(subject: Subject, name: str) -> int | None:
    """Return the axis of an input whose size an argument of the constructor tells."""
    names = list(subject.inputs(subject.sizes()))
    axes = subject.contract.inputs[names.index(name)].axes
    if subject.card.name in ANY_CHANNELS:
        return None
    usual = "channels" if "channels" in full_arguments(subject.cls, subject.arguments) else ""
    rules = [subject.card.axes.get(axis, usual if axis == "c" else "") for axis in axes]
    found = [place for place, rule in enumerate(rules) if re.search("channels|embed_dim", str(rule))]
    return found[0] if found else None


def refusals(subject: Subject, name: str, bad: Tensor) -> list[str]:
    """Return what the block and its ``attention`` say of an input."""
    block: nn.Module = subject.build()
    inputs = {**subject.inputs(subject.sizes()), name: bad}
    words = []
    for call in (block, getattr(block, "attention", block)):
        with pytest.raises(ValueError, match=f"^{subject.card.class_name}: ") as caught:
            call(**inputs)
        words.append(str(caught.value))
    return words


@pytest.mark.parametrize(("subject", "name"), cases())
def test_an_input_of_other_axes_is_refused(subject, name):
    x = subject.inputs(subject.sizes())[name]
    ranks = RANKS.get(subject.card.name, (x.dim(),))
    expected = f"{ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else x.dim()
    fewer, more = x[(0,) * (x.dim() - min(ranks) + 1)], x[(None,) * (max(ranks) + 1 - x.dim())]
    for bad in (fewer, more):
        for words in refusals(subject, name, bad):
            if subject.card.name == "axial-attention":
                assert words.endswith(f"expected {x.dim()}; build it with num_axes={bad.dim() - 2}")
            else:
                assert f" of shape {tuple(bad.shape)} has {bad.dim()} axes, expected {expected}; give (" in words


@pytest.mark.parametrize(("subject", "name"), [case for case in cases() if channel_axis(*case.values) is not None])
def test_an_input_of_other_channels_is_refused(subject, name):
    x = subject.inputs(subject.sizes())[name]
    axis = channel_axis(subject, name)
    for bad in (x.narrow(axis, 0, 1), torch.cat([x, x], axis)):
        for words in refusals(subject, name, bad):
            found = f" of shape {tuple(bad.shape)} has {bad.shape[axis]} channels, expected "
            assert re.search(re.escape(found) + rf"(\w+=)?{x.shape[axis]}; give \(.*\b{x.shape[axis]}\b.*\)", words)


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "words"),
    [
        (
            "se",
            {"channels": 64},
            (2, 3, 8, 8),
            "SE: input of shape (2, 3, 8, 8) has 3 channels, expected channels=64; "
            "give (N, 64, H, W) or build it with channels=3",
        ),
        (
            "se",
            {"channels": 64},
            (64, 8, 8),
            "SE: input of shape (64, 8, 8) has 3 axes, expected 4; give (N, 64, H, W)",
        ),
        ("simam", {}, (64, 8, 8), "SimAM: input of shape (64, 8, 8) has 3 axes, expected 4; give (N, C, H, W)"),
        (
            "swin-block",
            {"embed_dim": 8},
            (2, 8, 7, 7),
            "SwinBlock: input of shape (2, 8, 7, 7) has 7 channels, expected embed_dim=8; "
            "give (N, H, W, 8) or build it with embed_dim=7",
        ),
        ("dia-cell", {"channels": 16}, (16,), "DIACell: input of shape (16,) has 1 axes, expected 2; give (N, 16)"),
        (
            "bisenet-ffm",
            {"channels": 8, "out_channels": 4},
            ((1, 3, 2, 2), (1, 6, 2, 2)),
            "FeatureFusion: spatial and context together of shape (1, 9, 2, 2) has 9 channels, expected channels=8; "
            "give (N, 8, H, W) or build it with channels=9",
        ),
        (
            "axial-attention",
            {"channels": 8, "num_axes": 3, "channel_axis": -1},
            (1, 8, 2, 3, 4),
            "AxialAttention: input of shape (1, 8, 2, 3, 4) has 4 channels, expected channels=8; "
            "give (N, T, H, W, 8) or build it with channels=4",
        ),
    ],
)
def test_the_words_name_what_was_found_and_what_to_give(name, arguments, shape, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        attnzoo.create(name, **arguments)(*map(torch.ones, shape if isinstance(shape[0], tuple) else (shape,)))


@pytest.mark.parametrize("name", ["reverse-attention", "reverse-attention-pranet"])
@pytest.mark.parametrize("shape", [(1, 6, 5), (2, 12, 6, 5)])
def test_a_prediction_that_would_be_spread_is_refused(name, shape):
    block = attnzoo.create(name, channels=12, hidden_channels=4)
    wrong = "3 axes, expected 4" if len(shape) == 3 else "12 channels, expected 1"
    words = f"{type(block).__name__}: prediction of shape {shape} has {wrong}; give (N, 1, H, W)"
    for call in (block, block.attention):
        with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
            call(torch.ones(2, 12, 6, 5), torch.ones(shape))


def test_an_unbatched_map_beside_a_batched_prediction_is_refused():
    block = attnzoo.create("reverse-attention-pranet", channels=12)
    words = "ReverseAttentionPraNet: input of shape (12, 6, 5) has 3 axes, expected 4; give (N, 12, H, W)"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        block(torch.ones(12, 6, 5), torch.ones(2, 1, 6, 5))


def test_a_transform_sees_the_axes_of_one_sample():
    block, x = attnzoo.create("se", channels=16).eval(), torch.randn(3, 2, 16, 4, 4)
    torch.testing.assert_close(torch.func.vmap(block)(x), torch.stack([block(part) for part in x]))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_trace_is_not_warned_of():
    torch.jit.trace(attnzoo.create("lct", channels=16).eval(), torch.randn(1, 16, 4, 4))
