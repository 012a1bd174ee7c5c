import re

import pytest
import torch

from attnzoo_vision.mixed.light_cbam import LightCBAM


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_formula(training: bool) -> None:
    torch.manual_seed(0)
    block, x = LightCBAM(64).double().train(training), torch.randn(2, 64, 6, 9, dtype=torch.float64)
    pooled = 0.5 * x.mean((2, 3)) + 0.5 * x.amax((2, 3))
    z = x * torch.sigmoid(block.excite(torch.relu(block.squeeze(pooled))))[:, :, None, None]
    plane = 0.5 * z.mean(1, keepdim=True) + 0.5 * z.amax(1, keepdim=True)
    expected = z * torch.sigmoid(block.norm(block.spatial(plane)))
    torch.testing.assert_close(block(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reduction": 32}, "LightCBAM: reduction=32 is above channels=16; use 16 or less"),
        ({"kernel_size": 4}, "LightCBAM: kernel_size=4 is not a positive odd number; use 3 or 5"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        LightCBAM(16, **arguments)
