import re

import pytest
import torch

from attnzoo_vision.mixed.ela import ELA


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equals_the_formula(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    block = ELA(32, kernel_size=5).double()
    x = torch.randn(2, 32, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    rows = torch.sigmoid(block.norm(block.conv(x.mean(3))))[:, :, :, None]
    columns = torch.sigmoid(block.norm(block.conv(x.mean(2))))[:, :, None, :]
    torch.testing.assert_close(block(x), x * rows * columns)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 4}, "ELA: kernel_size=4 is not a positive odd number; use 3 or 5"),
        ({"groups": 3}, "ELA: groups=3 does not divide channels=16; use groups=2 or 4"),
        ({"norm_groups": 5}, "ELA: norm_groups=5 does not divide channels=16; use norm_groups=4 or 8"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ELA(16, **arguments)
