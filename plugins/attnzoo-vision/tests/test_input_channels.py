"""Maps of one channel, which broadcasting would take for maps of many, are refused by every block with channels."""

import pytest
import torch

import attnzoo

BLOCKS = {
    "attention-pool2d": ({"channels": 16, "feature_size": 4}, "AttentionPool2d"),
    "eca-ns": ({"channels": 16}, "ECANS"),
    "fca": ({"channels": 16}, "FCA"),
    "gct": ({"channels": 16}, "GCT"),
    "multiple-temporal-aggregation": ({"channels": 16, "num_frames": 2}, "MultipleTemporalAggregation"),
    "srm": ({"channels": 16}, "SRM"),
}


@pytest.mark.parametrize("found", [1, 15])
@pytest.mark.parametrize("name", BLOCKS)
def test_other_channels_are_refused(name, found):
    arguments, shown = BLOCKS[name]
    block = attnzoo.create(name, **arguments)
    message = f"^{shown}: input has {found} channels, expected channels=16; build it with channels={found}$"
    with pytest.raises(ValueError, match=message):
        block(torch.randn(2, found, 4, 4))
