import re

import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.mixed.cbam import CBAM


def formula(block: CBAM, x: torch.Tensor) -> torch.Tensor:
    def mlp(s: torch.Tensor) -> torch.Tensor:
        return block.excite(torch.relu(block.squeeze(s)))

    pixels = x.flatten(2)
    pooled = {
        "avg": pixels.mean(2),
        "max": pixels.max(2).values,
        "lp": (pixels**2).sum(2).sqrt(),
        "lse": pixels.exp().sum(2).log(),
    }
    z = x * torch.sigmoid(sum(mlp(pooled[kind]) for kind in block.pools))[:, :, None, None]
    maps = torch.stack([z.max(1).values, z.mean(1)], dim=1)
    weight = torch.cat([block.kernel_max, block.kernel_mean], dim=1)
    return z * torch.sigmoid(block.norm(F.conv2d(maps, weight, padding=weight.shape[-1] // 2)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_formula(training: bool, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    block = CBAM(64, pools=("max", "avg", "lp", "lse"), kernel_size=5).double().train(training)
    x = torch.randn(2, 64, 6, 9, dtype=torch.float64).contiguous(memory_format=layout)
    torch.testing.assert_close(block(x), formula(block, x))
    with torch.no_grad():
        torch.testing.assert_close(block(x), formula(block, x))


def test_without_a_kernel_only_the_channels_are_weighted() -> None:
    block, x = CBAM(16, reduction=4, kernel_size=None), torch.randn(2, 16, 3, 4)
    assert [name.split(".")[0] for name in block.state_dict()] == ["squeeze", "squeeze", "excite", "excite"]
    torch.testing.assert_close(block(x), x * block.attention(x)["channel"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reduction": 32}, "CBAM: reduction=32 is above channels=16; use 16 or less"),
        ({"kernel_size": 4}, "CBAM: kernel_size=4 is not a positive odd number; use 3 or 5"),
        ({"pools": ["avg", "min"]}, "CBAM: pools=['avg', 'min'] must be one or more of avg, max, lp, lse"),
        ({"gate": "soft"}, "CBAM: gate='soft' is not known"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CBAM(16, **arguments)
