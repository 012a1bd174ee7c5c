"""Structural and spatial attention, gates, samplers: what is measured, and the formulas in plain PyTorch.

The authors' code writes most ReLUs over their inputs; so do these writings.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from case import Case, Size, channels
from plain import conv_norm, conv_norm_relu, mean_hw, scaled
from torch import Tensor

Block = Any

_DEPTHS = {56: 3, 28: 2}  # of the hourglasses of residual attention, as in the authors' network; 1 on smaller maps
_CLASSES, _CELL = 19, 8  # of a label map; pixels of it along each axis to one of the logits


# arguments and inputs


def _twice(name: str, **more: Any) -> Callable[[int, int], Mapping[str, Any]]:
    """Return the channels and, by this name, twice as many: those of the next stage of a backbone."""
    return lambda c, h: {"channels": c, name: 2 * c, **more}


def _same(*names: str, **more: Any) -> Callable[[int, int], Mapping[str, Any]]:
    """Return the channels, also by these names."""
    return lambda c, h: {"channels": c, **dict.fromkeys(names, c), **more}


def _two(size: Size) -> tuple[Tensor, ...]:
    return torch.randn(size), torch.randn(size)


def _and_coarser(size: Size) -> tuple[Tensor, ...]:
    """Return a map and one of half the size with twice the channels."""
    samples, channels, height, width = size
    return torch.randn(size), torch.randn(samples, 2 * channels, height // 2, width // 2)


def _and_finer(size: Size) -> tuple[Tensor, ...]:
    """Return a map and one of twice the size with half the channels."""
    samples, channels, height, width = size
    return torch.randn(size), torch.randn(samples, channels // 2, 2 * height, 2 * width)


def _and_prediction(size: Size) -> tuple[Tensor, ...]:
    """Return a map and logits of its size."""
    return torch.randn(size), torch.randn(size[0], 1, *size[2:])


def _and_matrix(size: Size) -> tuple[Tensor, ...]:
    """Return a map and affine matrices around the identity."""
    return torch.randn(size), torch.eye(2, 3) + 0.1 * torch.randn(size[0], 2, 3)


def _image(size: Size) -> tuple[Tensor, ...]:
    """Return an image whose eighth has the map's height and width."""
    return (torch.randn(size[0], 3, 8 * size[2], 8 * size[3]),)


def _detail(size: Size) -> tuple[Tensor, ...]:
    """Return logits of the map's height and width, and a label map of square patches."""
    labels = torch.randint(_CLASSES, (size[0], *size[2:]))
    return torch.randn(size[0], 1, *size[2:]), labels.repeat_interleave(_CELL, 1).repeat_interleave(_CELL, 2)


CASES: tuple[Case, ...] = (
    Case("additive-attention-gate", _same("gating_channels"), inputs=_two),
    Case("attention-gate", _twice("gating_channels"), inputs=_and_coarser),
    Case("affine-sampler", lambda c, h: {}, inputs=_and_matrix),
    Case("stn", channels()),
    Case("bisenet-arm", channels(out_channels=128)),
    Case("bisenet-context-path", _twice("deep_channels"), inputs=_and_coarser),
    Case("bisenet-ffm", lambda c, h: {"channels": 2 * c, "out_channels": 2 * c}, inputs=_two),
    Case("bisenet-spatial-path", lambda c, h: {"channels": 3, "out_channels": c}, inputs=_image),
    Case("stdc-module", _same("out_channels")),
    # the channels do not matter here: logits have one, which has no layout
    Case("detail-guidance-loss", lambda c, h: {}, {}, 64 * 56 * 56, inputs=_detail, maps=False),
    Case("pan-fpa", channels()),
    Case("pan-gau", lambda c, h: {"channels": c, "fine_channels": c // 2}, inputs=_and_finer),
    Case("pan-fpa-smp", _same("out_channels")),
    Case("pan-gau-smp", lambda c, h: {"channels": c, "fine_channels": c // 2}, inputs=_and_finer),
    Case("reverse-attention", channels(), inputs=_and_prediction),
    Case("reverse-attention-pranet", channels(), inputs=_and_prediction),
    Case("large-kernel-attention", channels()),
    Case("van-attention", channels()),
    Case("van-block", channels()),
    Case("pyramid-attention", channels(), {}, 2048 * 7 * 7),
    Case("residual-attention", lambda c, h: {"channels": c, "depth": _DEPTHS.get(h, 1)}),
)


# formulas


def additive_attention_gate(block: Block, x: Tensor, gate: Tensor) -> Tensor:
    hidden = torch.relu_(block.gate_norm(block.gate(gate)) + block.skip_norm(block.skip(x)))
    return x * torch.sigmoid(block.psi_norm(block.psi(hidden)))


def attention_gate(block: Block, x: Tensor, gate: Tensor) -> Tensor:
    theta = block.theta(x)
    phi = F.interpolate(block.phi(gate), theta.shape[2:], mode="bilinear")
    weight = torch.sigmoid(block.psi(torch.relu_(theta + phi)))
    weight = F.interpolate(weight, x.shape[2:], mode="bilinear")
    return block.norm(block.project(weight.expand_as(x) * x))


def affine_sampler(block: Block, x: Tensor, theta: Tensor) -> Tensor:
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=True), align_corners=True)


def stn(block: Block, x: Tensor) -> Tensor:
    feature = torch.relu_(F.max_pool2d(block.conv1(x), 2, ceil_mode=True))
    feature = torch.relu_(F.max_pool2d(block.conv2(feature), 2, ceil_mode=True))
    feature = F.adaptive_avg_pool2d(feature, 3).flatten(1)
    theta = block.theta(torch.relu_(block.hidden(feature))).view(-1, 2, 3)
    return affine_sampler(block, x, theta)


def bisenet_arm(block: Block, x: Tensor) -> Tensor:
    feature = conv_norm_relu(block.conv, x)
    return scaled(feature, torch.sigmoid(block.gate_norm(block.gate(mean_hw(feature)))))


def bisenet_context_path(block: Block, x: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
    mean = torch.relu_(block.context_norm(block.context(mean_hw(deep))))
    last = bisenet_arm(block.deep_arm, deep) + mean[:, :, None, None]
    last = F.interpolate(last, x.shape[2:], mode="bilinear", align_corners=True)
    last = conv_norm_relu(block.deep_refine, last)
    size = (2 * x.shape[2], 2 * x.shape[3])
    joined = F.interpolate(bisenet_arm(block.arm, x) + last, size, mode="bilinear", align_corners=True)
    return conv_norm_relu(block.refine, joined), last


def bisenet_ffm(block: Block, spatial: Tensor, context: Tensor) -> Tensor:
    feature = conv_norm_relu(block.fuse, torch.cat([spatial, context], dim=1))
    weight = torch.sigmoid(block.excite(torch.relu_(block.squeeze(mean_hw(feature)))))
    return feature + scaled(feature, weight)


def bisenet_spatial_path(block: Block, x: Tensor) -> Tensor:
    for unit in (block.conv1, block.conv2, block.conv3, block.conv4):
        x = conv_norm_relu(unit, x)
    return x


def stdc_module(block: Block, x: Tensor) -> Tensor:
    results = []
    for unit in block.convs:
        x = conv_norm_relu(unit, x)
        results.append(x)
    return torch.cat(results, dim=1)


def detail_guidance_loss(block: Block, logits: Tensor, labels: Tensor) -> Tensor:
    kernel = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, 8.0, -1.0], [-1.0, -1.0, -1.0]]).view(1, 1, 3, 3)
    plane, size = labels.unsqueeze(1).float(), labels.shape[1:]
    edges = []
    for stride in (1, 2, 4):
        found = F.conv2d(plane, kernel, stride=stride, padding=1).clamp(min=0)
        edges.append((F.interpolate(found, size, mode="nearest") > 0.1).float())
    fuse = torch.tensor(block.scale_weights).view(1, 3, 1, 1)
    target = (F.conv2d(torch.cat(edges, dim=1), fuse) > 0.1).float()
    logits = F.interpolate(logits, size, mode="bilinear", align_corners=True)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target)
    share, flat = torch.sigmoid(logits).flatten(1), target.flatten(1)
    overlap = (share * flat).sum(1)
    dice = 1 - (2 * overlap + block.smooth) / (share.sum(1) + flat.sum(1) + block.smooth)
    return torch.stack([cross_entropy, dice.mean()])


def pan_fpa(block: Block, x: Tensor) -> Tensor:
    mean = block.mean_norm(block.mean(mean_hw(x)))
    levels = [x]
    for unit in block.down:
        levels.append(conv_norm_relu(unit, levels[-1]))
    merged = conv_norm(block.lateral[2], levels[3])
    for i in (2, 1, 0):
        height, width = levels[i].shape[2:]
        merged = torch.relu_(block.up_norm[i](block.up[i](merged)[..., :height, :width]))
        if i > 0:
            merged = torch.relu_(conv_norm(block.lateral[i - 1], levels[i]) + merged)
    return torch.relu_(conv_norm(block.master, x) * merged + mean[:, :, None, None])


def pan_gau(block: Block, x: Tensor, fine: Tensor) -> Tensor:
    weight = torch.relu_(block.gate_norm(block.gate(mean_hw(x))))
    weighted = scaled(conv_norm(block.fine, fine), weight)
    return torch.relu_(block.coarse_norm(block.coarse(x)) + weighted)


def pan_fpa_smp(block: Block, x: Tensor) -> Tensor:
    levels = [x]
    for unit in block.down:
        levels.append(conv_norm_relu(unit, F.max_pool2d(levels[-1], 2)))
    merged = conv_norm_relu(block.lateral[2], levels[3])
    for i in (2, 1, 0):
        merged = F.interpolate(merged, levels[i].shape[2:], mode="bilinear", align_corners=True)
        if i > 0:
            merged = conv_norm_relu(block.lateral[i - 1], levels[i]) + merged
    mean = torch.relu_(block.mean_norm(block.mean(mean_hw(x))))
    return merged * conv_norm_relu(block.master, x) + mean[:, :, None, None]


def pan_gau_smp(block: Block, x: Tensor, fine: Tensor) -> Tensor:
    resized = F.interpolate(x, fine.shape[2:], mode="bilinear", align_corners=True)
    weight = torch.sigmoid(block.gate_norm(block.gate(mean_hw(x))))
    return resized + scaled(conv_norm_relu(block.fine, fine), weight)


def reverse_attention(block: Block, x: Tensor, prediction: Tensor) -> Tensor:
    y = torch.relu_(block.reduce_norm(block.reduce(x)))
    y = torch.sigmoid(-prediction).expand_as(y) * y
    for conv, norm in zip(block.convs, block.norms, strict=True):
        y = torch.relu_(norm(conv(y)))
    return prediction + block.score(y)


def reverse_attention_pranet(block: Block, x: Tensor, prediction: Tensor) -> Tensor:
    gate = 1 - torch.sigmoid(prediction)
    y = conv_norm(block.reduce, gate.expand_as(x) * x)
    for unit in block.hidden:
        y = torch.relu(conv_norm(unit, y))
    return conv_norm(block.score, y) + prediction


def large_kernel_attention(block: Block, x: Tensor) -> Tensor:
    return x * block.pointwise(block.dilated(block.local(x)))


def van_attention(block: Block, x: Tensor) -> Tensor:
    y = large_kernel_attention(block.lka, F.gelu(block.project_in(x)))
    return block.project_out(y) + x


def van_block(block: Block, x: Tensor) -> Tensor:
    scales = [scale[:, None, None] for scale in (block.attention_scale, block.mlp_scale)]
    x = x + scales[0] * van_attention(block.attend, block.attention_norm(x))
    hidden = F.gelu(block.depthwise(block.expand(block.mlp_norm(x))))
    return x + scales[1] * block.reduce(hidden)


def pyramid_attention(block: Block, x: Tensor) -> Tensor:
    query = block.query_activation(block.query(x))
    keys, values = [], []
    for scale in block.scales:
        size = [math.floor(length * scale) for length in x.shape[2:]]
        copy = x if scale == 1 else F.interpolate(x, size, mode="bicubic")
        maps = (block.key_activation(block.key(copy)), block.value_activation(block.value(copy)))
        for patches, t in zip((keys, values), maps, strict=True):
            windows = F.unfold(t, 3, padding=1)
            patches.append(windows.view(t.shape[0], t.shape[1], 3, 3, -1).permute(0, 4, 1, 2, 3))
    rebuilt = []
    # the authors convolve each sample with its own patches
    for one, key, value in zip(query.split(1), torch.cat(keys, 1), torch.cat(values, 1), strict=True):
        length = key.pow(2).sum((1, 2, 3), keepdim=True).sqrt()
        weight = F.conv2d(one, key / torch.max(length, block.norm_floor), padding=1)
        weight = F.softmax(weight * block.softmax_scale, dim=1)
        rebuilt.append(F.conv_transpose2d(weight, value, padding=1) / 4.0)
    return torch.cat(rebuilt) + x * block.residual_scale


def _unit(unit: Any, x: Tensor) -> Tensor:
    y = unit.conv1(torch.relu_(unit.bn1(x)))
    y = unit.conv2(torch.relu_(unit.bn2(y)))
    return unit.conv3(torch.relu_(unit.bn3(y))) + x  # type: ignore[no-any-return]


def residual_attention(block: Block, x: Tensor) -> Tensor:
    first = _unit(block.first, x)
    trunk = _unit(block.trunk[1], _unit(block.trunk[0], first))
    levels, mask = [trunk], first
    for unit in block.down:
        mask = _unit(unit, F.max_pool2d(mask, 3, stride=2, padding=1))
        levels.append(mask)
    mask = F.max_pool2d(mask, 3, stride=2, padding=1)
    mask = _unit(block.bottom[1], _unit(block.bottom[0], mask))
    for up, skip, level in zip(block.up, reversed(block.skip), reversed(levels[1:]), strict=True):
        resized = F.interpolate(mask, level.shape[2:], mode="bilinear", align_corners=True)
        mask = _unit(up, resized + _unit(skip, level))
    mask = F.interpolate(mask, trunk.shape[2:], mode="bilinear", align_corners=True)
    for norm, _, conv in (block.mask[:3], block.mask[3:]):
        mask = conv(torch.relu_(norm(mask)))
    return _unit(block.last, (1 + torch.sigmoid(mask)) * trunk)


PLAIN: dict[str, Callable[..., Any]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(additive_attention_gate, attention_gate, affine_sampler, stn, bisenet_arm, bisenet_context_path, bisenet_ffm),
        *(bisenet_spatial_path, stdc_module, detail_guidance_loss, pan_fpa, pan_gau),
        *(pan_fpa_smp, pan_gau_smp, reverse_attention, reverse_attention_pranet, large_kernel_attention),
        *(van_attention, van_block, pyramid_attention, residual_attention),
    )
}
