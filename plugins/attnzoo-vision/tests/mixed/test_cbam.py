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
    logits = F.conv2d(maps, weight, block.spatial_bias, padding=weight.shape[-1] // 2)
    return z * torch.sigmoid(logits if block.norm is None else block.norm(logits))


def stir(block: CBAM) -> CBAM:
    """Move the biases and the norm away from zero, where they start."""
    for name, parameter in block.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            torch.nn.init.normal_(parameter)
    return block


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_formula(training: bool, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    block = stir(CBAM(64, pools=("max", "avg", "lp", "lse"), kernel_size=5).double().train(training))
    x = torch.randn(2, 64, 6, 9, dtype=torch.float64).contiguous(memory_format=layout)
    torch.testing.assert_close(block(x), formula(block, x))
    with torch.no_grad():
        torch.testing.assert_close(block(x), formula(block, x))


@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_formula_without_a_norm(bias: bool) -> None:
    torch.manual_seed(0)
    block = stir(CBAM(16, reduction=4, kernel_size=3, spatial_norm=False, spatial_bias=bias).double())
    x = torch.randn(2, 16, 6, 9, dtype=torch.float64)
    assert ("spatial_bias" in block.state_dict()) is bias
    assert block.norm is None
    torch.testing.assert_close(block(x), formula(block, x))


def test_starts_as_in_the_authors_network() -> None:
    torch.manual_seed(0)
    block = CBAM(1024, kernel_size=49)
    for kernel in (block.kernel_max, block.kernel_mean):
        assert kernel.std().item() == pytest.approx((2 / 49**2) ** 0.5, rel=0.05)
    for layer in (block.squeeze, block.excite):
        bound = layer.in_features**-0.5
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert layer.weight.abs().max() <= bound
        assert not layer.bias.any()
    assert block.norm.weight.item() == block.norm.bias.item() == 0
    assert CBAM(16, spatial_norm=False, spatial_bias=True).spatial_bias.item() == 0
    assert (block(torch.randn(2, 1024, 3, 4)) != 0).all()
    assert (block.attention(torch.randn(2, 1024, 3, 4))["spatial"] == 0.5).all()


def test_parameters_drawn_anew_start_the_same_way() -> None:
    block = stir(CBAM(32, kernel_size=3))
    block.reset_parameters()
    zero = [name for name, parameter in block.named_parameters() if not parameter.any()]
    assert zero == ["squeeze.bias", "excite.bias", "norm.weight", "norm.bias"]


def test_without_a_kernel_only_the_channels_are_weighted() -> None:
    block, x = CBAM(16, reduction=4, kernel_size=None), torch.randn(2, 16, 3, 4)
    assert [name.split(".")[0] for name in block.state_dict()] == ["squeeze", "squeeze", "excite", "excite"]
    torch.testing.assert_close(block(x), x * block.attention(x)["channel"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reduction": 32}, "CBAM: reduction=32 is above channels=16; use 16 or less"),
        ({"kernel_size": 4}, "CBAM: kernel_size=4 is not a positive odd number; use 3 or 5"),
        (
            {"pools": ["avg", "min"]},
            "CBAM: pools=['avg', 'min'] are not all known, or none; use one or more of 'avg', 'max', 'lp', 'lse'",
        ),
        ({"gate": "soft"}, "CBAM: gate='soft' is not known"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CBAM(16, **arguments)


@pytest.mark.parametrize(("option", "value"), [("spatial_bias", True), ("spatial_norm", False)])
def test_options_of_the_spatial_part_need_one(option, value):
    message = f"^CBAM: {option}={value} needs a spatial part, found kernel_size=None; leave it out$"
    with pytest.raises(ValueError, match=message):
        CBAM(16, kernel_size=None, **{option: value})
