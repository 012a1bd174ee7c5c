"""Norms that use the magnitude of their weight (InPlaceABN of STDC-Seg), in both directions of a dialect."""

import dataclasses

import pytest
import torch
from torch import Tensor

import attnzoo
from attnzoo.errors import DialectError
from attnzoo.weights.dialects import translation
from attnzoo.weights.foreign import build_foreign, foreign_tensors

BLOCK, DIALECT = "vision/bisenet-ffm", "michaelfan01"
ARGUMENTS = {"channels": 12, "out_channels": 8, "reduction": 4}


def their_tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = attnzoo.create(BLOCK, **ARGUMENTS).state_dict()
    names = {"fuse.conv": "convblk.conv", "fuse.norm": "convblk.bn", "squeeze": "conv1", "excite": "conv2"}
    theirs = {}
    for key, tensor in state.items():
        layer, _, leaf = key.rpartition(".")
        shape = (*tensor.shape, 1, 1) if layer in ("squeeze", "excite") else tensor.shape
        if leaf != "num_batches_tracked":
            theirs[f"{names[layer]}.{leaf}"] = torch.randn(shape)
    theirs["convblk.bn.running_var"].abs_()
    return theirs


def test_a_loaded_norm_multiplies_by_the_magnitude_as_theirs_does():
    theirs = their_tensors()
    assert (theirs["convblk.bn.weight"] < 0).any()
    block = build_foreign(attnzoo.default_registry(), BLOCK, DIALECT, ARGUMENTS, theirs, "a file").eval()
    x = torch.randn(2, 8, 3, 4)
    mean, variance, bias = (
        theirs[f"convblk.bn.{leaf}"][:, None, None] for leaf in ("running_mean", "running_var", "bias")
    )
    scale = (theirs["convblk.bn.weight"].abs() + 1e-5)[:, None, None]
    torch.testing.assert_close(block.fuse.norm(x), (x - mean) / (variance + 1e-5).sqrt() * scale + bias)


def test_what_is_written_back_loads_to_the_same_numbers():
    theirs = their_tensors()
    registry = attnzoo.default_registry()
    block = build_foreign(registry, BLOCK, DIALECT, ARGUMENTS, theirs, "a file")
    back = foreign_tensors(block, DIALECT, registry)
    torch.testing.assert_close(back["convblk.bn.weight"], theirs["convblk.bn.weight"].abs(), rtol=1e-6, atol=1e-7)
    again = build_foreign(registry, BLOCK, DIALECT, ARGUMENTS, back, "a file")
    torch.testing.assert_close(again.fuse.norm.weight, block.fuse.norm.weight, rtol=1e-6, atol=1e-7)


def test_a_weight_that_no_magnitude_gives_is_not_written():
    block = attnzoo.create(BLOCK, **ARGUMENTS)
    with torch.no_grad():
        block.fuse.norm.weight[3] = -0.25
    message = (
        "tensor fuse.norm.weight: a number is -0.25, expected 1e-05 or more: "
        r"their layer uses \|convblk.bn.weight\| \+ 1e-05; save it in another dialect"
    )
    with pytest.raises(DialectError, match=f"^{message}$"):
        foreign_tensors(block, DIALECT, attnzoo.default_registry())


@pytest.mark.parametrize("value", ["1e-5", -1, True])
def test_other_values_in_a_card_are_refused(value):
    entry = attnzoo.default_registry().find(BLOCK)
    dialect = entry.card.dialects[DIALECT]
    tensors = {**dialect.tensors, "fuse.norm.weight": [{"theirs": "convblk.bn.weight", "magnitude": value}]}
    shapes = {k: v.shape for k, v in attnzoo.create(BLOCK, **ARGUMENTS).state_dict().items()}
    message = "dialect 'michaelfan01': tensors.fuse.norm.weight: magnitude is .*, expected a number such as 1.0e-5"
    with pytest.raises(DialectError, match=message):
        translation(dataclasses.replace(dialect, tensors=tensors), ARGUMENTS, shapes)
