import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import attnzoo
from attnzoo.errors import DialectError
from attnzoo_vision.structure.bisenet_arm import AttentionRefinement
from attnzoo_vision.structure.bisenet_context_path import ContextPath
from attnzoo_vision.structure.bisenet_ffm import FeatureFusion
from attnzoo_vision.structure.bisenet_spatial_path import SpatialPath


def test_the_spatial_path_ends_at_an_eighth():
    assert SpatialPath(3, 16, hidden_channels=8)(torch.randn(2, 3, 33, 40)).shape == (2, 16, 5, 5)


def test_refinement_scales_the_convolved_channels():
    block = AttentionRefinement(6, 4).double().eval()
    x = torch.randn(2, 6, 5, 7).double()
    f = block.conv(x)
    gate = torch.sigmoid(block.gate_norm(block.gate(f.mean((2, 3)))))
    torch.testing.assert_close(block(x), f * gate[:, :, None, None])


def test_refinement_trains_on_one_sample():
    block = AttentionRefinement(6, 4).train()
    assert block(torch.randn(1, 6, 5, 7)).isfinite().all()
    assert block.gate_norm.running_mean.abs().max() == 0


@pytest.mark.parametrize("reduction", [2, 3])
def test_fusion_adds_the_weighted_feature(reduction):
    block = FeatureFusion(10, 8, reduction=reduction).double().eval()
    assert block.squeeze.out_features == 8 // reduction
    s, c = torch.randn(2, 4, 5, 7).double(), torch.randn(2, 6, 5, 7).double()
    f = block.fuse(torch.cat([s, c], 1))
    gate = torch.sigmoid(block.excite(torch.relu(block.squeeze(f.mean((2, 3))))))
    torch.testing.assert_close(block(s, c), f + f * gate[:, :, None, None])


@pytest.mark.parametrize("gate", ["norm", "norm_relu"])
def test_fusion_with_one_layer_normalises_the_logits(gate):
    block = FeatureFusion(10, 8, gate=gate).double().eval()
    for tensor in (block.gate_norm.running_mean, block.gate_norm.bias):
        torch.nn.init.normal_(tensor)
    s, c = torch.randn(2, 4, 5, 7).double(), torch.randn(2, 6, 5, 7).double()
    f = block.fuse(torch.cat([s, c], 1))
    logits = (f.mean((2, 3)) @ block.gate.weight.T - block.gate_norm.running_mean) / (1 + 1e-5) ** 0.5
    logits = logits + block.gate_norm.bias
    share = torch.sigmoid(logits if gate == "norm" else F.relu(logits))[:, :, None, None]
    torch.testing.assert_close(block(s, c), f + f * share)
    assert (block.attention(s, c)["channel"].min() < 0.5) == (gate == "norm")


@pytest.mark.parametrize("gate", ["mlp", "norm", "norm_relu"])
def test_a_new_fusion_is_kaiming_normal(gate):
    torch.manual_seed(0)
    block = FeatureFusion(256, 256, gate=gate)
    layers = [layer for layer in block.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == (3 if gate == "mlp" else 2)
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)


def test_a_reduction_of_one_layer_is_refused():
    message = r"^FeatureFusion: reduction=4 needs gate='mlp', 'norm' has no hidden units; use 1$"
    with pytest.raises(ValueError, match=message):
        FeatureFusion(8, 8, reduction=4, gate="norm")


def test_an_unknown_gate_of_the_fusion_is_refused():
    message = r"^FeatureFusion: gate='bn' is not known; use one of 'mlp', 'norm', 'norm_relu'$"
    with pytest.raises(ValueError, match=message):
        FeatureFusion(8, 8, gate="bn")


def test_the_context_path_goes_from_the_mean_to_the_finer_map():
    block = ContextPath(6, 8, out_channels=4).double().eval()
    x, deep = torch.randn(2, 6, 5, 7).double(), torch.randn(2, 8, 3, 4).double()
    g = torch.relu(block.context_norm(block.context(deep.mean((2, 3)))))[:, :, None, None]
    up = lambda t, size: F.interpolate(t, size, mode="bilinear", align_corners=True)  # noqa: E731
    t = block.deep_refine(up(block.deep_arm(deep) + g, (5, 7)))
    y = block.refine(up(block.arm(x) + t, (9, 13)))
    context, deep_context = block(x, deep, (9, 13))
    torch.testing.assert_close(context, y)
    torch.testing.assert_close(deep_context, t)


def test_the_context_path_of_other_libraries_takes_the_nearest_pixel():
    block = ContextPath(6, 8, out_channels=4, upsample="nearest").double().eval()
    x, deep = torch.randn(2, 6, 5, 7).double(), torch.randn(2, 8, 3, 4).double()
    g = torch.relu(block.context_norm(block.context(deep.mean((2, 3)))))[:, :, None, None]
    t = block.deep_refine(F.interpolate(block.deep_arm(deep) + g, (5, 7)))
    y = block.refine(F.interpolate(block.arm(x) + t, (10, 14)))
    context, deep_context = block(x, deep)
    torch.testing.assert_close(context, y)
    torch.testing.assert_close(deep_context, t)


@pytest.mark.parametrize(
    ("dialect", "theirs", "widths", "options"),
    [
        ("ycszen", {"out_planes": 19, "is_training": False, "criterion": None}, (1024, 2048, 128), {}),
        ("ycszen", {"out_planes": 19, "is_training": False, "criterion": None}, (128, 256, 128), {}),
        ("coincheung", {}, (256, 512, 128), {"upsample": "nearest"}),
        ("michaelfan01", {"backbone": "STDCNet813"}, (512, 1024, 128), {"upsample": "nearest"}),
        ("mmseg", {}, (1024, 2048, 256), {"upsample": "nearest"}),
        ("mmseg-stdc", {}, (512, 1024, 128), {"upsample": "nearest"}),
    ],
)
def test_the_widths_of_every_backbone_are_read_from_its_tensors(tmp_path, dialect, theirs, widths, options):
    channels, deep_channels, out_channels = widths
    args = {"channels": channels, "deep_channels": deep_channels, "out_channels": out_channels, **options}
    block = attnzoo.create("bisenet-context-path", **args).eval()
    attnzoo.export(block, tmp_path / "a.safetensors", dialect)
    loaded = attnzoo.load_foreign(tmp_path / "a.safetensors", "bisenet-context-path", dialect, **theirs).eval()
    x, deep = torch.randn(2, channels, 3, 4), torch.randn(2, deep_channels, 2, 2)
    for ours, expected in zip(loaded(x, deep), block(x, deep), strict=True):
        torch.testing.assert_close(ours, expected)


def test_the_norms_of_stdc_have_positive_weights(tmp_path):
    block = attnzoo.create(
        "bisenet-context-path", channels=512, deep_channels=1024, out_channels=128, upsample="nearest"
    )
    attnzoo.export(block, tmp_path / "a.safetensors", "michaelfan01")
    theirs = load_file(tmp_path / "a.safetensors")
    norms = [key for key in theirs if key.endswith("running_mean")]
    assert len(norms) == 7
    for key in norms:
        theirs[key.replace("running_mean", "weight")].fill_(-0.5)
    save_file(theirs, tmp_path / "b.safetensors")
    loaded = attnzoo.load_foreign(tmp_path / "b.safetensors", "bisenet-context-path", "michaelfan01")
    weights = [m.weight for m in loaded.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    assert len(weights) == 7
    for weight in weights:
        torch.testing.assert_close(weight, torch.full_like(weight, 0.5 + 1e-5), rtol=0, atol=1e-7)


MMSEG = {
    "bisenet-arm": ("mmseg", {"channels": 6, "out_channels": 4}, {"in_channels": 6, "out_channel": 4}),
    "bisenet-ffm": (
        "mmseg",
        {"channels": 6, "out_channels": 4, "gate": "norm_relu"},
        {"in_channels": 6, "out_channels": 4},
    ),
    "feature-fusion": (
        "mmseg-stdc",
        {"channels": 6, "out_channels": 4, "reduction": 2},
        {"in_channels": 6, "out_channels": 4, "scale_factor": 2},
    ),
    "bisenet-spatial-path": (
        "mmseg",
        {"channels": 3, "out_channels": 4, "hidden_channels": 2},
        {"num_channels": [2, 2, 2, 4]},
    ),
    "bisenet-context-path": (
        "mmseg",
        {"channels": 6, "deep_channels": 8, "out_channels": 4, "upsample": "nearest"},
        {"context_channels": [4, 6, 8]},
    ),
    "context-path": (
        "mmseg-stdc",
        {"channels": 6, "deep_channels": 8, "out_channels": 4, "upsample": "nearest"},
        {"last_in_channels": [8, 6], "out_channels": 4},
    ),
}


def mmseg_block(path, name, **layers):
    dialect, args, theirs = MMSEG[name]
    block = attnzoo.create(name, **args)
    attnzoo.export(block, path / "a.safetensors", dialect)
    return block, attnzoo.load_foreign(path / "a.safetensors", name, dialect, **theirs, **layers)


@pytest.mark.parametrize("name", MMSEG)
def test_the_layers_that_mmsegmentation_is_configured_with_may_be_said(tmp_path, name):
    block, loaded = mmseg_block(tmp_path, name, norm_cfg={"type": "SyncBN", "requires_grad": True}, init_cfg=None)
    tensors = block.state_dict()
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("norm", [None, {"type": "GN"}, {"type": "BN", "eps": 1e-3}, {"type": "BN", "momentum": 0.01}])
@pytest.mark.parametrize("name", MMSEG)
def test_another_norm_of_mmsegmentation_is_refused(tmp_path, name, norm):
    with pytest.raises(DialectError, match=rf"^dialect '{MMSEG[name][0]}': does not hold for these arguments, "):
        mmseg_block(tmp_path, name, norm_cfg=norm)


@pytest.mark.parametrize("activation", [None, {"type": "LeakyReLU"}])
@pytest.mark.parametrize("name", [name for name in MMSEG if name != "context-path"])
def test_another_activation_of_mmsegmentation_is_refused(tmp_path, name, activation):
    with pytest.raises(DialectError, match=rf"^dialect '{MMSEG[name][0]}': does not hold for these arguments, "):
        mmseg_block(tmp_path, name, act_cfg=activation)


def test_a_spatial_path_of_several_inner_widths_is_refused(tmp_path):
    block = attnzoo.create("bisenet-spatial-path", channels=3, out_channels=4, hidden_channels=2)
    attnzoo.export(block, tmp_path / "a.safetensors", "mmseg")
    theirs = {"num_channels": [2, 3, 2, 4]}
    with pytest.raises(DialectError, match=r"^dialect 'mmseg': does not hold for these arguments, "):
        attnzoo.load_foreign(tmp_path / "a.safetensors", "bisenet-spatial-path", "mmseg", **theirs)
