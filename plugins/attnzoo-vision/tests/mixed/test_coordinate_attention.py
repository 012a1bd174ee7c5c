import pytest
import torch
import torch.nn.functional as F

import attnzoo
from attnzoo.errors import DialectError
from attnzoo_vision.mixed.coordinate_attention import CoordinateAttention


def formula(block: CoordinateAttention, x: torch.Tensor) -> torch.Tensor:
    h, w = x.shape[2:]
    pooled = torch.cat([x.mean(3), x.mean(2)], dim=2)
    hidden = F.hardswish(block.norm(block.squeeze(pooled.transpose(1, 2)).transpose(1, 2)))
    rows, columns = hidden.transpose(1, 2).split([h, w], dim=1)
    a_h = torch.sigmoid(block.height(rows)).transpose(1, 2)[:, :, :, None]
    a_w = torch.sigmoid(block.width(columns)).transpose(1, 2)[:, :, None, :]
    return x * a_h * a_w


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_formula(training: bool, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    block = CoordinateAttention(12, reduction=2).double().train(training)
    for layer in (block.squeeze, block.norm, block.height, block.width):
        torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 12, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    torch.testing.assert_close(block(x), formula(block, x))
    with torch.no_grad():
        y = block(x)
    torch.testing.assert_close(y, formula(block, x))
    assert y.is_contiguous(memory_format=layout)


def test_the_shortcut_adds_the_input() -> None:
    torch.manual_seed(0)
    plain, x = CoordinateAttention(8).eval(), torch.randn(2, 8, 4, 3)
    shortcut = CoordinateAttention(8, shortcut=True).eval()
    shortcut.load_state_dict(plain.state_dict())
    torch.testing.assert_close(shortcut(x), plain(x) + x)


@pytest.mark.parametrize("bias", [True, False])
def test_starts_as_in_the_authors_network(bias: bool) -> None:
    torch.manual_seed(0)
    block = CoordinateAttention(512, reduction=4, bias=bias)
    for layer in (block.squeeze, block.height, block.width):
        assert layer.weight.std().item() == pytest.approx((2 / layer.out_features) ** 0.5, rel=0.02)
        assert layer.bias is None or not layer.bias.any()
    assert (block.norm.weight == 1).all()
    assert not block.norm.bias.any()


def test_a_reduction_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="CoordinateAttention: reduction=0 is below 1; use 1 or more"):
        CoordinateAttention(8, reduction=0)


@pytest.mark.parametrize("norm_layer", [None, "torch.nn.Identity"])
def test_a_norm_that_does_nothing_is_none(tmp_path, norm_layer):
    attnzoo.export(attnzoo.create("ca", channels=8, bias=False, norm=False), tmp_path / "a.safetensors", "timm")
    block = attnzoo.load_foreign(tmp_path / "a.safetensors", "ca", "timm", channels=8, norm_layer=norm_layer)
    assert block.norm is None


@pytest.mark.parametrize(
    "norm_layer",
    [
        {"call": "functools.partial", "args": ["torch.nn.BatchNorm2d"], "kwargs": {"eps": 1e-3}},
        "timm.layers.BatchNormAct2d",
        "timm.layers.GroupNorm1",
    ],
)
def test_another_norm_is_refused(tmp_path, norm_layer):
    attnzoo.export(attnzoo.create("ca", channels=8, bias=False), tmp_path / "a.safetensors", "timm")
    with pytest.raises(DialectError) as caught:
        attnzoo.load_foreign(tmp_path / "a.safetensors", "ca", "timm", channels=8, norm_layer=norm_layer)
    assert str(caught.value) == (
        "dialect 'timm': args.norm: expression 'batch_norm(norm_layer)': "
        f"norm {norm_layer!r}, expected none or a batch norm with torch's defaults"
    )
