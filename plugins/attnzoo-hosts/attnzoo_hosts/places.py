"""The named places, library by library. A rule that finds nothing in a host is passed over."""

from attnzoo.hosts import Placement

__all__ = ["SEGMENTATION", "TIMM", "TORCHVISION", "TRANSFORMERS", "ULTRALYTICS"]

_BRANCHES = "the end of every residual branch, before the sum"
_STAGES = "the output of every stage"
_MLP = "the output of every MLP of a transformer, before the sum"
_ATTENTION = "the output of every self-attention of a transformer, before the sum"

TORCHVISION = (
    Placement(
        "residual-branches",
        _BRANCHES,
        (
            "class:BasicBlock.bn2",
            "class:Bottleneck.bn3",
            "class:CNBlock.block",
            "class:InvertedResidual.conv",
            "class:InvertedResidual.block",
            "class:MBConv.block",
            "class:FusedMBConv.block",
        ),
    ),
    Placement(
        "stage-outputs",
        _STAGES,
        ("class:ResNet.layer[1-4]", "class:ConvNeXt.features.[1357]", "class:RegNet.trunk_output.*"),
    ),
    Placement("last-stage", "the output of the last stage", ("class:ResNet.layer4", "class:ConvNeXt.features.7")),
    Placement("mlp-outputs", _MLP, ("class:EncoderBlock.mlp", "class:SwinTransformerBlock.mlp")),
    Placement("attention-outputs", _ATTENTION, ("class:EncoderBlock.dropout", "class:SwinTransformerBlock.attn")),
)

TIMM = (
    Placement(
        "residual-branches",
        _BRANCHES,
        (
            "class:BasicBlock.bn2",
            "class:Bottleneck.bn3",
            "class:BottleneckBlock.conv3_1x1",
            "class:InvertedResidual.bn3",
            "class:DepthwiseSeparableConv.bn2",
            "class:ConvNeXtBlock.drop_path",
        ),
    ),
    Placement(
        "stage-outputs",
        _STAGES,
        ("class:ResNet.layer[1-4]", "class:ConvNeXt.stages.?", "class:EfficientNet.blocks.?", "class:RegNet.s[1-4]"),
    ),
    Placement(
        "last-stage",
        "the output of the last stage",
        ("class:ResNet.layer4", "class:ConvNeXt.stages.3", "class:RegNet.s4", "class:EfficientNet.blocks.6"),
    ),
    Placement("mlp-outputs", _MLP, ("class:Block.mlp", "class:SwinTransformerBlock.mlp", "class:EvaBlock.mlp")),
    Placement(
        "attention-outputs", _ATTENTION, ("class:Block.attn", "class:SwinTransformerBlock.attn", "class:EvaBlock.attn")
    ),
)

ULTRALYTICS = (
    Placement("c2f", "every C2f, C3 or C3k2, in backbone and neck", ("class:C2f", "class:C3")),
    Placement("detect-inputs", "what goes into the detection head: P3, P4, P5", ("class:Detect.cv[23].?.0",), "before"),
    Placement("sppf", "after the pyramid pooling at the end of the backbone", ("class:SPPF",)),
    Placement("residual-branches", _BRANCHES, ("class:Bottleneck.cv2",)),
)

TRANSFORMERS = (
    Placement(
        "mlp-outputs",
        _MLP,
        (
            "class:Dinov2Layer.mlp",
            "class:ViTMLP",
            "class:ViTOutput.dense",
            "class:BertOutput.dense",
            "class:SwinOutput",
            "class:LlamaMLP",
            "class:CLIPMLP",
            "class:SiglipMLP",
        ),
    ),
    Placement(
        "attention-outputs",
        _ATTENTION,
        (
            "class:ViTSelfOutput.dense",
            "class:Dinov2SelfOutput.dense",
            "class:BertSelfOutput.dense",
            "class:SwinSelfOutput",
            "class:LlamaAttention.o_proj",
            "class:CLIPAttention.out_proj",
        ),
    ),
    Placement("stage-outputs", _STAGES, ("class:ConvNextStage", "class:ResNetStage", "class:SwinStage")),
    Placement("residual-branches", _BRANCHES, ("class:ResNetBottleNeckLayer.layer", "class:ResNetBasicLayer.layer")),
)

SEGMENTATION = (
    Placement("decoder-blocks", "the output of every decoder block", ("class:UnetDecoderBlock", "class:DecoderBlock")),
    Placement(
        "encoder-stages", "the output of every stage of the encoder", ("encoder.layer[1-4]", "encoder.features.*")
    ),
    Placement("bottleneck", "the deepest features, before the decoder", ("encoder.layer4", "decoder.center")),
    Placement("residual-branches", _BRANCHES, ("class:BasicBlock.bn2", "class:Bottleneck.bn3")),
)
