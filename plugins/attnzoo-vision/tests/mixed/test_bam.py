import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.mixed.bam import BAM


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("combine", ["product", "sum"])
def test_equals_the_formula(combine: str, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    block = BAM(16, reduction=4, combine=combine).double().eval()
    x = torch.randn(2, 16, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    channel, spatial = block.channel(x.mean((2, 3)))[:, :, None, None], block.spatial(x)
    expected = x * (1 + torch.sigmoid(channel * spatial if combine == "product" else channel + spatial))
    torch.testing.assert_close(block(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected)


def normalised(norm: torch.nn.BatchNorm1d | torch.nn.BatchNorm2d, z: torch.Tensor) -> torch.Tensor:
    shape = (1, -1, *[1] * (z.dim() - 2))
    mean, variance, weight, bias = (
        t.view(shape) for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (z - mean) / (variance + norm.eps).sqrt() * weight + bias


@pytest.mark.parametrize(("num_layers", "num_dilated", "final_norm"), [(1, 2, True), (3, 3, False), (0, 0, True)])
def test_equals_the_formula_with_other_depths_and_final_norms(
    num_layers: int, num_dilated: int, final_norm: bool
) -> None:
    torch.manual_seed(0)
    depths = {"num_layers": num_layers, "num_dilated": num_dilated}
    block = BAM(12, reduction=3, dilation=2, combine="sum", final_norm=final_norm, **depths).double().eval()
    for norm in block.modules():
        if isinstance(norm, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            for tensor in (norm.running_mean, norm.weight, norm.bias):
                torch.nn.init.normal_(tensor)
    x = torch.randn(2, 12, 5, 7, dtype=torch.float64)
    channel, layers = x.mean((2, 3)), list(block.channel)
    for i in range(0, 3 * num_layers, 3):
        channel = F.relu(normalised(layers[i + 1], F.linear(channel, layers[i].weight, layers[i].bias)))
    channel = F.linear(channel, layers[3 * num_layers].weight, layers[3 * num_layers].bias)
    spatial, layers = x, list(block.spatial)
    for i in range(0, 3 * (num_dilated + 1), 3):
        dilation = 2 if i else 1
        conv = F.conv2d(spatial, layers[i].weight, layers[i].bias, padding=2 if i else 0, dilation=dilation)
        spatial = F.relu(normalised(layers[i + 1], conv))
    spatial = F.conv2d(spatial, layers[3 * num_dilated + 3].weight, layers[3 * num_dilated + 3].bias)
    if final_norm:
        channel, spatial = normalised(block.channel[-1], channel), normalised(block.spatial[-1], spatial)
    torch.testing.assert_close(block(x), x * (1 + torch.sigmoid(channel[:, :, None, None] + spatial)))


def test_starts_as_in_the_authors_network() -> None:
    torch.manual_seed(0)
    block = BAM(1024)
    for layer in (*block.channel, *block.spatial):
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            assert not layer.bias.any()
    for index, fan_out in ((0, 64), (3, 64 * 9), (6, 64 * 9)):
        assert block.spatial[index].weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert block.spatial[9].weight.std().item() == pytest.approx(2**0.5, rel=0.25)
    for index, fan_in in ((0, 1024), (3, 64)):
        assert block.channel[index].weight.std().item() == pytest.approx((1 / (3 * fan_in)) ** 0.5, rel=0.05)


def test_a_negative_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="BAM: num_dilated=-1 is below 0; use 0 or more"):
        BAM(16, num_dilated=-1)


def test_a_reduction_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="BAM: reduction=16 is above channels=8; use 8 or less"):
        BAM(8)


def test_an_unknown_combination_is_refused() -> None:
    with pytest.raises(ValueError, match="BAM: combine='max' is not known; use one of 'product', 'sum'"):
        BAM(16, combine="max")
