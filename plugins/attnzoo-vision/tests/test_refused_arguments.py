"""Arguments that fit no block are refused by its constructor, with its name, the argument and what to do."""

import re

import pytest
import torch

import attnzoo
from attnzoo.errors import BuildError

DROPOUTS = {
    "attention-pool2d": {"channels": 8},
    "bat": {"channels": 8},
    "dat-deform-attn": {"channels": 8, "feature_size": 4},
    "dia-cell": {"channels": 8},
    "ge-block": {"channels": 8},
    "mhsa": {"embed_dim": 8},
    "multi-head-external-attention": {"embed_dim": 8},
    "ocr-block": {"channels": 8},
    "outlook-attention": {"embed_dim": 6},
    "rot-attention-pool2d": {"channels": 32},
    "swin-block": {"embed_dim": 8},
    "swin-window-attention": {"embed_dim": 8, "window_size": 2},
    "van-block": {"channels": 8},
}
ATTENTION_DROPOUTS = {
    "dat-deform-attn", "mhsa", "multi-head-external-attention", "outlook-attention", "swin-block",
    "swin-window-attention",
}  # fmt: skip
LAYERS = {"outlooker": {"embed_dim": 6}, "swin-block": {"embed_dim": 8}, "van-block": {"channels": 8}}

TWO = "has not two numbers; give a height and a width, or one number for both"
WRONG = [
    (
        "axial-block",
        {"channels": 16, "num_heads": 3},
        "num_heads=3 times 2 does not divide hidden_channels=8; use num_heads=2 or 4",
    ),
    ("axial-block", {"channels": 1}, "hidden_channels=0 is below 1; use 1 or more"),
    (
        "axial-attention",
        {"channels": 8, "channel_axis": 4},
        "channel_axis=4 is not one of the 3 axes behind the batch; use 1 to 3, or count from the end, -1 the last",
    ),
    ("bot-block", {"channels": 8, "feature_size": [4, 4, 4]}, f"feature_size=[4, 4, 4] {TWO}"),
    (
        "dia-stage",
        {"channels": 8, "out_channels": 4, "reduction": 5},
        "reduction=5 is above out_channels=4; use 4 or less",
    ),
    ("gsop-block", {"channels": 3, "projection": True}, "hidden_channels=0 is below 1; use 1 or more"),
    (
        "large-kernel-attention",
        {"channels": 4, "kernel_size": 6},
        "kernel_size=6 with dilation=3 needs 2 taps, which is even; use 3 or 7",
    ),
    (
        "ms-deform-attn",
        {"embed_dim": 8, "num_levels": 2, "level_shapes": [[2, 3]]},
        "num_levels=2 is not the number of level_shapes=[[2, 3]]; use num_levels=1",
    ),
    ("ms-deform-core", {"level_shapes": [[2, 3, 4]]}, f"level_shapes=[2, 3, 4] {TWO}"),
    ("non-local", {"channels": 8, "norm": "group"}, "groups=32 does not divide channels=8; use groups=8"),
    (
        "outlooker",
        {"embed_dim": 6, "padding": 0, "stride": 1},
        "kernel_size=3 with padding=0 gives no window for each pixel; "
        "use an odd kernel_size and padding=kernel_size // 2",
    ),
    (
        "position-sensitive-axial-attention",
        {"channels": 16, "out_channels": 8},
        "num_heads=8 times 2 does not divide out_channels=8; use num_heads=4",
    ),
    (
        "rot-attention-pool2d",
        {"channels": 12, "num_heads": 2},
        "num_heads=2 times 4 does not divide embed_dim=12; use num_heads=1 or 3",
    ),
    (
        "rot-attention-pool2d",
        {"channels": 14, "num_heads": 2},
        "num_heads=2 times 4 does not divide embed_dim=14; use embed_dim=8 or 16",
    ),
    (
        "sk",
        {"channels": 9, "split_input": True},
        "split_input=True does not share channels=9 evenly among 2 branches; use a multiple of 2",
    ),
    ("sk", {"channels": 8, "groups": 8, "split_input": True}, "groups=8 does not divide channels // 2=4; use groups=4"),
    ("sk-block", {"channels": 3, "projection": True}, "hidden_channels=0 is below 1; use 1 or more"),
    (
        "stn",
        {"channels": 3, "output_size": [4]},
        "output_size=[4] is not two numbers of at least 1; give two such numbers",
    ),
    (
        "van-attention",
        {"channels": 4, "kernel_size": 12},
        "kernel_size=12 with dilation=3 needs 4 taps, which is even; use 9 or 13",
    ),
    (
        "detail-guidance-loss",
        {"scale_weights": []},
        "scale_weights is empty, expected a weight for stride 1, 2, ...; give one",
    ),
]


def expect_refused(name, arguments, words):
    shown = attnzoo.default_registry().find(name).card.class_name
    with pytest.raises(BuildError, match=f"^block '{name}': {shown}: {re.escape(words)}$"):
        attnzoo.create(name, **arguments)


@pytest.mark.parametrize("value", [1.5, -0.5])
@pytest.mark.parametrize("name", DROPOUTS)
def test_a_dropout_that_is_no_probability_is_refused(name, value):
    words = f"dropout={value} is not in [0, 1]; use 0 to drop nothing"
    expect_refused(name, {**DROPOUTS[name], "dropout": value}, words)


@pytest.mark.parametrize("name", sorted({*ATTENTION_DROPOUTS, "outlooker"}))
def test_an_attention_dropout_of_one_is_refused(name):
    words = "attention_dropout=1.0 is not in [0, 1); use 0 to drop nothing"
    expect_refused(name, {**DROPOUTS.get(name, {"embed_dim": 6}), "attention_dropout": 1.0}, words)


@pytest.mark.parametrize("value", [1.0, 2.0, -0.5])
@pytest.mark.parametrize("name", LAYERS)
def test_a_branch_that_is_always_left_out_is_refused(name, value):
    words = f"drop_path={value} is not in [0, 1); use 0 to drop nothing"
    expect_refused(name, {**LAYERS[name], "drop_path": value}, words)


@pytest.mark.parametrize("name", ["outlooker", "swin-block"])
def test_an_mlp_of_negative_width_is_refused(name):
    expect_refused(name, {**LAYERS[name], "mlp_ratio": -1.0}, "mlp_ratio=-1.0 is below 0; use 0 or more")


def test_an_mlp_without_channels_is_refused():
    words = "mlp_ratio=-1.0 leaves no hidden channel of channels=8; use a larger one"
    expect_refused("van-block", {"channels": 8, "mlp_ratio": -1.0}, words)


@pytest.mark.parametrize(("name", "arguments", "words"), WRONG)
def test_what_does_not_fit_is_refused_with_what_does(name, arguments, words):
    expect_refused(name, arguments, words)


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "words"),
    [
        ("sge", {"groups": 3}, (1, 4, 3, 3), "SGE: groups=3 does not divide channels=4; use groups=2 or 4"),
        (
            "axial-attention",
            {"channels": 8},
            (1, 8, 2, 2, 2),
            "AxialAttention: input of 5 axes, expected 4; build it with num_axes=3",
        ),
        (
            "lambda-layer",
            {"channels": 8, "feature_size": 3},
            (1, 8, 4, 2),
            "LambdaLayer: map of 4x2 is larger than feature_size=[3, 3]; build it with a larger one",
        ),
    ],
)
def test_an_input_that_does_not_fit_is_refused(name, arguments, shape, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        attnzoo.create(name, **arguments)(torch.ones(shape))
