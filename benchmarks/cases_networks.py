"""Residual blocks with attention, and attention with states: what is measured, and the formulas in plain PyTorch."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from case import TWENTY_EIGHT, Case, Size, channels, peer_class
from plain import (
    batch_norm,
    conv1x1,
    conv_norm,
    conv_norm_relu,
    gather_excite,
    gsop_channel,
    mean_hw,
    scaled,
    tokens,
)
from torch import Tensor, nn

Block = Any

_CLASSES, _FRAMES = 19, 8


def _axial(c: int, h: int) -> Mapping[str, Any]:
    return {"channels": c, "kernel_size": h}


def _bottleneck(c: int, h: int) -> Mapping[str, Any]:
    """Return the paper's shares: values as wide as the bottleneck, which at 2048 channels are the default 4 x 128."""
    return {"channels": c, "feature_size": h, "head_dim": c // 16}


def _selective(c: int, h: int) -> Mapping[str, Any]:
    return {"channels": c, "groups": min(32, c // 4)}


def _timm_bottleneck(c: int, h: int) -> nn.Module:
    attention = import_module("timm.layers.bottleneck_attn").BottleneckAttn
    byobnet = import_module("timm.models.byobnet")
    layers = byobnet.LayerFn(self_attn=lambda width, **more: attention(width, scale_pos_embed=True, **more))
    more = {"bottle_ratio": 0.25, "feat_size": (h, h), "layers": layers}
    return peer_class("timm.models.byobnet", "SelfAttnBlock", c, c, **more)


def _state(size: Size) -> tuple[Tensor, ...]:
    samples, c = size[:2]
    return torch.randn(samples, c), torch.rand(1, samples, c), torch.randn(1, samples, c)


def _classes(size: Size) -> tuple[Tensor, ...]:
    """Return features and the logits of as many classes as Cityscapes has."""
    samples, _, height, width = size
    return torch.randn(size), torch.randn(samples, _CLASSES, height, width)


CASES = (
    Case("axial-block", _axial, {}, TWENTY_EIGHT),
    Case("bot-block", _bottleneck, {"timm": _timm_bottleneck}, TWENTY_EIGHT),
    Case("ge-block", channels(), {}, TWENTY_EIGHT),
    Case("gsop-block", channels()),
    Case("gsop-position", channels()),
    Case("sk-block", _selective),
    Case("dia-cell", channels(dropout=0.0), inputs=_state, maps=False),
    Case("dia-stage", channels()),
    Case("coxt-layer", channels(), {}, TWENTY_EIGHT),
    Case("ocr-block", channels(dropout=0.0), inputs=_classes),
    Case("multiple-temporal-aggregation", channels(num_frames=_FRAMES)),
    Case("position-sensitive-axial-attention", _axial, {}, TWENTY_EIGHT),
)


# units; ReLU writes over its input, and the sum over the branch, where the authors' networks do


def added(y: Tensor, shortcut: Tensor) -> Tensor:
    y += shortcut
    return torch.relu_(y)


def distances(length: int) -> Tensor:
    """Return the row of a table of ``2 length - 1`` distances for every query (row) and key (column)."""
    place = torch.arange(length)
    return place[None, :] - place[:, None] + length - 1


# self-attention


def position_sensitive_axial_attention(block: Block, x: Tensor) -> Tensor:
    lines = (x.permute(0, 3, 1, 2) if block.along_height else x.permute(0, 2, 1, 3)).contiguous()
    n, m, _, length = lines.shape
    qkv = batch_norm(block.qkv_norm, F.conv1d(lines.flatten(0, 1), block.qkv.weight[..., 0]))
    parts = [block.value_dim // 2, block.value_dim // 2, block.value_dim]
    q, k, v = qkv.view(n * m, block.num_heads, -1, length).split(parts, dim=2)
    relative = block.relative.index_select(1, distances(length).t().flatten()).view(-1, length, length)
    q_place, k_place, v_place = relative.split(parts, dim=0)
    by_query = torch.einsum("bgci,cij->bgij", q, q_place)
    by_key = torch.einsum("bgci,cij->bgij", k, k_place).transpose(2, 3)
    stacked = torch.cat([torch.einsum("bgci,bgcj->bgij", q, k), by_query, by_key], dim=1)
    stacked = batch_norm(block.logit_norm, stacked).view(n * m, 3, block.num_heads, length, length)
    weight = stacked.sum(1).softmax(3)
    content = torch.einsum("bgij,bgcj->bgci", weight, v)
    place = torch.einsum("bgij,cij->bgci", weight, v_place)
    both = torch.cat([content, place], dim=-1).view(n * m, -1, length)
    y = batch_norm(block.out_norm, both).view(n, m, -1, 2, length).sum(3)
    return y.permute(0, 2, 3, 1) if block.along_height else y.permute(0, 2, 1, 3)


def axial_block(block: Block, x: Tensor) -> Tensor:
    y = position_sensitive_axial_attention(block.height, conv_norm_relu(block.reduce, x))
    y = torch.relu_(position_sensitive_axial_attention(block.width, y))
    return added(conv_norm(block.expand, y), x)


def bot_block(block: Block, x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    part = block.mhsa
    qkv = tokens(part.qkv, conv_norm_relu(block.reduce, x)).chunk(3, dim=1)
    q, k, v = (t.unflatten(1, (part.num_heads, -1)).transpose(2, 3) for t in qkv)
    q = q * part.scale
    row = torch.einsum("nghwd,hid->nghwi", q.unflatten(2, (h, w)), part.height[distances(h)])
    column = torch.einsum("nghwd,wjd->nghwj", q.unflatten(2, (h, w)), part.width[distances(w)])
    place = (row[..., :, None] + column[..., None, :]).reshape(n, -1, h * w, h * w)
    y = (q @ k.transpose(2, 3) + place).softmax(3) @ v
    y = torch.relu_(block.norm(y.transpose(2, 3).reshape(n, -1, h, w)))
    return added(conv_norm(block.expand, y), x)


def coxt_layer(block: Block, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    k = block.kernel_size
    context = conv_norm_relu(block.context, x)
    hidden = conv_norm_relu(block.embed, torch.stack([x, context], 2).flatten(1, 2))
    weight = block.weight_norm(block.weight(hidden)).reshape(n, 2, 1, -1, k * k, h * w)
    windows = F.unfold(conv_norm(block.value, x), k, padding=k // 2).view(n, 2, -1, weight.shape[3], k * k, h * w)
    y = F.silu(block.norm((windows * weight).sum(4).view(n, c, h, w)), inplace=True)
    maps = torch.stack([y, context], 2)
    part = block.fusion
    share = part.excite(torch.relu(part.norm(part.squeeze(maps.sum(2).mean((2, 3))))))
    return (maps * share.view(n, c, 2, 1, 1).softmax(2)).sum(2)


def ocr_unit(unit: Any, x: Tensor) -> Tensor:
    return torch.relu_(batch_norm(unit.norm, conv1x1(unit.linear, x)))


def ocr_block(block: Block, x: Tensor, logits: Tensor) -> Tensor:
    gather = (block.gather_scale * logits.flatten(2)).softmax(2)
    proxy = torch.matmul(gather, x.flatten(2).transpose(1, 2)).transpose(1, 2).unsqueeze(3)
    query = ocr_unit(block.pixel[1], ocr_unit(block.pixel[0], x)).flatten(2).transpose(1, 2)
    key = ocr_unit(block.object[1], ocr_unit(block.object[0], proxy)).flatten(2)
    value = ocr_unit(block.down, proxy).flatten(2).transpose(1, 2)
    weight = (block.scale * torch.matmul(query, key)).softmax(2)
    context = torch.matmul(weight, value).transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])
    joined = torch.cat([ocr_unit(block.up, context), x], dim=1)
    y = torch.relu_(batch_norm(block.norm, conv1x1(block.out, joined)))
    return F.dropout2d(y, block.dropout, block.training)


# channel


def ge_block(block: Block, x: Tensor) -> Tensor:
    y = block.conv1(torch.relu_(block.norm1(x)))
    y = block.conv2(torch.relu_(block.norm2(y)))
    return x + gather_excite(block.gather_excite, y)


def gsop_position(block: Block, x: Tensor) -> Tensor:
    feature = F.adaptive_avg_pool2d(block.norm(block.reduce(torch.relu(x))), 8).flatten(2)
    n, d, places = feature.shape
    centring = torch.eye(d) / places - torch.ones(d, d) / places**2
    moment = feature.transpose(1, 2).bmm(centring.expand(n, d, d)).bmm(feature)
    rows = block.row_filter
    kernel = rows.weight.view(-1, 1, places, 1)
    hidden = torch.relu_(F.conv2d(block.row_norm(moment)[..., None], kernel, rows.bias, groups=places))
    grid = torch.sigmoid(block.expand(hidden.flatten(1))).view(n, 1, 8, 8)
    return torch.relu_(x * F.adaptive_avg_pool2d(grid, x.shape[2:]))


def gsop_block(block: Block, x: Tensor) -> Tensor:
    y = conv_norm(block.conv3, conv_norm_relu(block.conv2, conv_norm_relu(block.conv1, x)))
    return added(gsop_channel(block.channel, y), x)


def sk_block(block: Block, x: Tensor) -> Tensor:
    y = conv_norm_relu(block.reduce, x)
    dense, grouped = conv_norm_relu(block.dense, y), conv_norm_relu(block.grouped, y)
    hidden = torch.relu(block.norm(block.squeeze(mean_hw(dense) + mean_hw(grouped))))
    weight = block.select(hidden).view(x.shape[0], 2, -1).softmax(1)
    selected = scaled(dense, weight[:, 0]) + scaled(grouped, weight[:, 1])
    return added(conv_norm(block.expand, selected), x)


# states


def dia_cell(block: Block, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    hiddens, cells = [], []
    for layer, (from_input, from_hidden) in enumerate(zip(block.from_input, block.from_hidden, strict=True)):
        enter, keep, new, show = (from_input(x) + from_hidden(hidden[layer])).chunk(4, dim=1)
        cells.append(torch.sigmoid(keep) * cell[layer] + torch.sigmoid(enter) * torch.tanh(new))
        hiddens.append(torch.sigmoid(show) * torch.sigmoid(cells[-1]))
        x = block.dropout(hiddens[-1])
    return torch.stack(hiddens), torch.stack(cells)


def dia_stage(block: Block, x: Tensor) -> Tensor:
    hidden = cell = x.new_zeros(1, x.shape[0], block.cell.hidden_channels)
    for part in block.blocks:
        y = torch.relu_(part.bn1(part.conv1(x)))
        y = torch.relu_(part.bn2(part.conv2(y)))
        y = part.bn3(part.conv3(y))
        hidden, cell = dia_cell(block.cell, mean_hw(y), hidden, cell)
        x = added(scaled(y, hidden[-1]), x)
    return x


# temporal


def filtered(x: Tensor, weight_ck: Tensor) -> Tensor:
    """Return the frames after a depthwise convolution along time, each pixel a sequence."""
    frames, c, h, w = x.shape
    sequences = x.view(-1, _FRAMES, c, h, w).permute(0, 3, 4, 2, 1).contiguous().view(-1, c, _FRAMES)
    y = F.conv1d(sequences, weight_ck[:, None], padding=1, groups=c)
    return y.view(-1, h, w, c, _FRAMES).permute(0, 4, 3, 1, 2).contiguous().view(frames, c, h, w)


def multiple_temporal_aggregation(block: Block, x: Tensor) -> Tensor:
    groups = x.split(x.shape[1] // len(block.filters), dim=1)
    results: list[Tensor] = []
    for i, conv in enumerate(block.convs):
        group = groups[i] + results[-1] if results else groups[i]
        results.append(conv_norm_relu(conv, filtered(group, block.filters[i])))
    return torch.cat([*results, filtered(groups[-1], block.filters[-1])], dim=1)


PLAIN: dict[str, Callable[..., Any]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(position_sensitive_axial_attention, axial_block, bot_block, coxt_layer, ocr_block),
        *(ge_block, gsop_position, gsop_block, sk_block, dia_cell, dia_stage, multiple_temporal_aggregation),
    )
}
