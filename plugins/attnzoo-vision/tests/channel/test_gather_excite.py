import re

import pytest
import torch
import torch.nn.functional as F

import attnzoo
from attnzoo_vision.channel.gather_excite import GatherExcite
from attnzoo_vision.channel.ge_block import GEBlock


def test_without_parameters_the_gate_is_the_sigmoid_of_the_mean():
    x = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(GatherExcite(6)(x), x * torch.sigmoid(x.mean((2, 3), keepdim=True)))


def test_windows_do_not_count_the_padding_and_spread_to_the_nearest():
    x = torch.randn(2, 6, 7, 5, dtype=torch.float64)
    gathered = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    torch.testing.assert_close(GatherExcite(6, extent=2)(x), x * torch.sigmoid(F.interpolate(gathered, size=(7, 5))))


def test_the_convolution_of_the_whole_map_is_followed_by_norm_and_excitation():
    torch.manual_seed(0)
    block = GatherExcite(6, gather="conv", size=(4, 5), hidden_channels=3).double().eval()
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    gathered = torch.relu(block.norms[0](block.convs[0](x))).flatten(1)
    weight = torch.sigmoid(block.excite(torch.relu(block.squeeze(gathered))))
    torch.testing.assert_close(block(x), x * weight[:, :, None, None])


def test_a_new_block_is_drawn_as_the_caffe_models_say():
    torch.manual_seed(0)
    block = GatherExcite(512, gather="conv", size=(14, 14), hidden_channels=64, gather_bias=True)
    (conv,), (norm,) = block.convs, block.norms
    assert conv.weight.std().item() == pytest.approx((2 / 14**2) ** 0.5, rel=0.02)  # one channel a filter
    assert norm.weight.eq(1).all()
    assert norm.bias.eq(0).all()
    for layer in (block.squeeze, block.excite):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert all(layer.bias.eq(0).all() for layer in (conv, block.squeeze, block.excite))


def test_a_convolution_of_the_whole_map_needs_its_size():
    message = "^GatherExcite: extent=0 with gather='conv' needs size; give height and width of the map$"
    with pytest.raises(ValueError, match=message):
        GatherExcite(6, gather="conv")


@pytest.mark.parametrize("block", [GatherExcite, GEBlock])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"extent": 3}, "extent=3 is not 0 or an even number; use 0 for the whole map"),
        (
            {"extent": 6, "gather": "conv"},
            "extent=6 with gather='conv' is not a power of two; use 4 or 8",
        ),
        ({"gather": "conv", "size": (3,)}, "size=[3] is not a height and a width; give two positive numbers"),
        (
            {"size": (3, 4)},
            "size=[3, 4] needs gather='conv' and extent=0, found 'mean' and 0; leave it out",
        ),
        (
            {"gather": "conv", "extent": 2, "size": (3, 4)},
            "size=[3, 4] needs gather='conv' and extent=0, found 'conv' and 2; leave it out",
        ),
        (
            {"gather": "conv", "size": (3, 4), "grid": 2},
            "grid=2 needs gather='mean' and extent=0, found 'conv' and 0; leave it out",
        ),
        ({"extent": 2, "grid": 2}, "grid=2 needs gather='mean' and extent=0, found 'mean' and 2; leave it out"),
        ({"grid": 0}, "grid=0 is below 1; use 1 or more"),
    ],
)
def test_what_has_no_effect_or_no_meaning_is_refused(block, options, words):
    with pytest.raises(ValueError, match=f"^{block.__name__}: {re.escape(words)}$"):
        block(6, **options)


def test_the_shortcut_of_a_residual_block_has_no_stride():
    message = (
        "GEBlock: stride=2 does not fit the shortcut, which is the input if out_channels=6 is channels=6; "
        "use stride=1 or other out_channels"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        GEBlock(6, stride=2)


def test_a_new_residual_block_is_drawn_as_the_caffe_models_say():
    torch.manual_seed(0)
    block = GEBlock(64, out_channels=128, stride=2, gather="conv", size=(8, 8), hidden_channels=64)
    for conv, fan_in in ((block.conv1, 64 * 9), (block.conv2, 128 * 9), (block.shortcut, 64)):
        assert conv.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.03)
    assert block.gather_excite.squeeze.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert block.norm2.weight.eq(1).all()
    assert block.norm2.bias.eq(0).all()


def test_the_residual_block_adds_the_gated_branch_to_the_shortcut():
    torch.manual_seed(0)
    block = GEBlock(4, out_channels=6, stride=2).double().eval()
    x = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    active = torch.relu(block.norm1(x))
    branch = block.conv2(torch.relu(block.norm2(block.conv1(active))))
    gate = torch.sigmoid(branch.mean((2, 3), keepdim=True))
    torch.testing.assert_close(block(x), block.shortcut(active) + branch * gate)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"extent": 4}, {"extent": 6}),  # log2 is cut off: two convolutions
        ({"extent": 4}, {"extent": 4, "norm_layer": "torch.nn.Identity"}),  # taken for a switch
        ({"extent": 4, "activation": "silu"}, {"extent": 4, "act_layer": "silu"}),
        ({"extent": 4, "gather_norm": False}, {"extent": 4, "norm_layer": None}),
        ({"extent": 2}, {"extent": 2, "act_layer": None}),  # none follows the only convolution
    ],
)
def test_a_block_of_timm_is_read_as_timm_builds_it(tmp_path, ours, theirs):
    block = GatherExcite(6, gather="conv", **ours)
    timm = {f"gather.conv{i + 1}.weight": conv.weight.detach() for i, conv in enumerate(block.convs)}
    for i, norm in enumerate(block.norms):
        torch.nn.init.uniform_(norm.weight)
        timm |= {f"gather.norm{i + 1}.{name}": value for name, value in norm.state_dict().items()}
    torch.save(timm, tmp_path / "a.pth")
    given = {"channels": 6, "extra_params": True, "use_mlp": False, **theirs}
    loaded = attnzoo.load_foreign(tmp_path / "a.pth", "gather-excite", "timm", **given)
    x = torch.randn(2, 6, 9, 11)
    assert torch.equal(loaded.eval()(x), block.eval()(x))
