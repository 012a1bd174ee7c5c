"""What ``blocks.py`` measures of attention on whole maps; ``plain.py`` has the formulas."""

from case import TWENTY_EIGHT, Case, channels, divisible, fcv, hidden, peer_class, timm, tokens
from torch import nn


def _simam(c: int, h: int) -> nn.Module:
    return peer_class("fightingcv_attention.attention.SimAM", "SimAM")


def _triplet(c: int, h: int) -> nn.Module:
    return peer_class("fightingcv_attention.attention.TripletAttention", "TripletAttention")


def _sge(c: int, h: int) -> nn.Module:
    return peer_class("fightingcv_attention.attention.SGE", "SpatialGroupEnhance", 8)


def _double(c: int, h: int) -> nn.Module:
    return peer_class("fightingcv_attention.attention.A2Atttention", "DoubleAttention", c, c // 4, c // 4)


def _outlook(c: int, h: int) -> nn.Module:
    module = "fightingcv_attention.attention.OutlookAttention"
    return peer_class(module, "OutlookAttention", c, num_heads=max(1, c // 32))


def _halo(c: int, h: int) -> nn.Module:
    return peer_class("timm.layers.halo_attn", "HaloAttn", c, block_size=8 if h % 8 == 0 else 7)


def _bottleneck(c: int, h: int) -> nn.Module:
    return peer_class("timm.layers.bottleneck_attn", "BottleneckAttn", c, feat_size=(h, h))


def _split(c: int, h: int) -> nn.Module:
    return peer_class("timm.layers", "SplitAttn", c, norm_layer=nn.BatchNorm2d)


def _torchvision_se(c: int, h: int) -> nn.Module:
    return peer_class("torchvision.ops", "SqueezeExcitation", c, divisible(c / 16))


_PSA = "PolarizedSelfAttention"
_COORD = "timm.layers.coord_attn"
_SMALL = 64 * 56 * 56  # bound of the costliest

CASES = (
    Case("se", hidden(1 / 16), {"timm": timm("SEModule"), "torchvision": _torchvision_se}),
    Case("effective-se", channels(), {"timm": timm("EffectiveSEModule")}),
    Case("eca", channels(), {"timm": timm("EcaModule")}),
    Case("ceca", channels(), {"timm": timm("CecaModule")}),
    Case("eca-ns", channels()),
    Case("fca", channels()),
    Case("gather-excite", channels(), {"timm": timm("GatherExcite", use_mlp=False)}),
    Case("gct", channels()),
    Case("gsop-channel", channels()),
    Case("lct", channels()),
    Case("sk", hidden(1 / 16, groups=1, split_input=True), {"timm": timm("SelectiveKernel")}, TWENTY_EIGHT),
    Case("sk-linear", channels(), {}, TWENTY_EIGHT),
    Case("split-attention", channels(), {"timm": _split}, TWENTY_EIGHT),
    Case("srm", channels()),
    Case(
        "bam",
        channels(dilation=1, num_layers=3, num_dilated=3, combine="sum"),
        {"fightingcv": fcv("BAM", "BAMBlock", dia_val=1)},
    ),
    Case("cbam", channels(bias=False), {"timm": timm("CbamModule", "timm.layers.cbam")}),
    Case("light-cbam", channels(), {"timm": timm("LightCbamModule", "timm.layers.cbam")}),
    Case("coordinate-attention", hidden(1 / 24), {"timm": timm("CoordAttn", _COORD)}),
    Case("ela", channels()),
    Case("split-ela", channels(), {"timm": timm("EfficientLocalAttn", _COORD)}),
    Case("ema", channels(groups=8)),
    Case("gam", channels(), {}, _SMALL),
    Case("mlca", channels()),
    Case("nam", channels()),
    Case("scse", channels()),
    Case("sge", lambda c, h: {"groups": 8}, {"fightingcv": _sge}),
    Case("shuffle-attention", channels(groups=8), {"fightingcv": fcv("ShuffleAttention", "ShuffleAttention", G=8)}),
    Case("simam", lambda c, h: {}, {"fightingcv": _simam}),
    Case("triplet-attention", lambda c, h: {}, {"fightingcv": _triplet}),
    Case("polarized-paper", channels(), {"fightingcv": fcv(_PSA, "ParallelPolarizedSelfAttention")}),
    Case(
        "polarized-paper",
        channels(order="sequential"),
        {"fightingcv": fcv(_PSA, "SequentialPolarizedSelfAttention")},
        label="polarized-paper (sequential)",
    ),
    Case("polarized-parallel", channels()),
    Case("polarized-sequential", channels()),
    Case(
        "global-context", channels(), {"timm": timm("GlobalContext", fuse_add=True, fuse_scale=False, rd_ratio=1 / 16)}
    ),
    Case("non-local", hidden(1 / 8), {"timm": timm("NonLocalAttn")}),
    Case("disentangled-non-local", hidden(1 / 8)),
    Case("danet-position-attention", channels()),
    Case("danet-channel-attention", channels()),
    Case("criss-cross-attention", channels(), {"fightingcv": fcv("CrissCrossAttention", "CrissCrossAttention")}),
    Case("external-attention", channels()),
    Case("ema-unit", channels()),
    Case("axial-attention", channels(), {}, TWENTY_EIGHT),
    Case("bot-mhsa", lambda c, h: {"channels": c, "feature_size": h}, {"timm": _bottleneck}, TWENTY_EIGHT),
    Case(
        "halo-attention",
        lambda c, h: {"channels": c, "block_size": 8 if h % 8 == 0 else 7},
        {"timm": _halo},
        TWENTY_EIGHT,
    ),
    Case(
        "lambda-layer",
        channels(kernel_size=9),
        {"timm": timm("LambdaLayer", "timm.layers.lambda_layer")},
        TWENTY_EIGHT,
    ),
    Case(
        "outlook-attention",
        lambda c, h: {"embed_dim": c, "num_heads": max(1, c // 32)},
        {"fightingcv": _outlook},
        TWENTY_EIGHT,
        inputs=tokens,
        maps=False,
    ),
    Case("bat", channels(), {"timm": timm("BatNonLocalAttn")}),
    Case("double-attention", channels(residual=False), {"fightingcv": _double}),
    Case("double-attention-positions", channels()),
    Case("cot-layer", channels(), {}, TWENTY_EIGHT),
    Case("cot-attention-global", channels(), {"fightingcv": fcv("CoTAttention", "CoTAttention")}, TWENTY_EIGHT),
    Case("temporal-adaptive-module", channels(num_frames=8)),
    Case("motion-excitation", channels(num_frames=8)),
)
