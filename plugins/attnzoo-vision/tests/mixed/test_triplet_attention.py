import pytest
import torch

from attnzoo_vision.mixed.triplet_attention import TripletAttention


def formula(block: TripletAttention, x: torch.Tensor) -> torch.Tensor:
    def gated(gate: torch.nn.Module, z: torch.Tensor) -> torch.Tensor:
        pooled = torch.cat([z.amax(1, keepdim=True), z.mean(1, keepdim=True)], dim=1)
        return z * torch.sigmoid(gate.norm(gate.conv(pooled)))

    branches = [
        gated(block.channel_width, x.permute(0, 2, 1, 3)).permute(0, 2, 1, 3),
        gated(block.height_channel, x.permute(0, 3, 2, 1)).permute(0, 3, 2, 1),
    ]
    if block.height_width is not None:
        branches.append(gated(block.height_width, x))
    return sum(branches) / len(branches)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 5, 7, 6), (1, 64, 17, 20)])
@pytest.mark.parametrize("spatial", [True, False])
def test_equals_the_formula(spatial: bool, shape: tuple[int, ...], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    block = TripletAttention(spatial=spatial).double().eval()
    if spatial:
        torch.nn.init.ones_(block.height_width.norm.weight)
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout)
    expected = formula(block, x).detach()
    torch.testing.assert_close(block(x).detach(), expected)
    with torch.no_grad():
        y = block(x)
    torch.testing.assert_close(y, expected)
    assert y.is_contiguous(memory_format=layout)
    torch.testing.assert_close(block.train()(x), formula(block, x))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("options", [{}, {"padding_mode": "circular"}, {"padding": 6, "dilation": 2}])
def test_a_convolution_put_in_place_of_the_own_one_is_what_it_is(options: dict, grad: bool) -> None:
    torch.manual_seed(0)
    block = TripletAttention().double().eval()
    torch.nn.init.ones_(block.height_width.norm.weight)
    for gate in (block.channel_width, block.height_channel, block.height_width):
        gate.conv = torch.nn.Conv2d(2, 1, 7, **{"padding": 3, **options}).double()
    x = torch.randn(1, 33, 34, 35, dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(block(x), formula(block, x))


def test_starts_as_in_the_authors_network() -> None:
    torch.manual_seed(0)
    block = TripletAttention(kernel_size=49)
    for gate in (block.channel_width, block.height_channel, block.height_width):
        assert gate.conv.weight.std().item() == pytest.approx((2 / 49**2) ** 0.5, rel=0.05)
        assert gate.norm.bias.item() == 0
    weights = [block.channel_width.norm.weight, block.height_channel.norm.weight, block.height_width.norm.weight]
    assert [weight.item() for weight in weights] == [1, 1, 0]
    assert (block.attention(torch.randn(2, 5, 3, 4))["height_width"] == 0.5).all()


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="TripletAttention: kernel_size=4 is not a positive odd number; use 3 or 5"):
        TripletAttention(kernel_size=4)
