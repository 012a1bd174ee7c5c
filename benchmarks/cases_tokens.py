"""Attention on tokens, windows, sampled points, clips: what is measured, and the formulas in plain PyTorch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from case import TWENTY_EIGHT, Case, Size, channels, fcv, peer_class, tokens
from plain import conv1x1, mean_hw
from torch import Tensor, nn

Block = Any

_HEADS, _LEVELS, _POINTS, _WINDOW, _FRAMES = 8, 4, 4, 7, 8


# arguments


def _embed(**more: Any) -> Callable[[int, int], Mapping[str, Any]]:
    return lambda c, h: {"embed_dim": c, **more}


def _narrow_heads(c: int, h: int) -> Mapping[str, Any]:
    return {"embed_dim": c, "num_heads": max(1, c // 32)}


def _dat(form: str) -> Callable[[int, int], Mapping[str, Any]]:
    """Return the authors' steps and kernels: 7 x 7 points on the maps of all four stages."""

    def arguments(c: int, h: int) -> Mapping[str, Any]:
        stride = max(1, h // 7)
        kernel = 2 * stride.bit_length() + 1
        return {"channels": c, "feature_size": h, "stride": stride, "kernel_size": kernel, "form": form}

    return arguments


def _level_shapes(h: int) -> list[list[int]]:
    """Return the sizes of four maps, each half the one before."""
    return [[-(-h // 2**level)] * 2 for level in range(_LEVELS)]


# inputs


def _listed(size: Size) -> tuple[Tensor, ...]:
    samples, c, height, width = size
    return (torch.randn(samples, height * width, c),)


def _windows(size: Size) -> tuple[Tensor, ...]:
    samples, c, height, width = size
    return (torch.randn(samples * height * width // _WINDOW**2, _WINDOW**2, c),)


def _clip(size: Size) -> tuple[Tensor, ...]:
    """Return patches and class token of one clip; frames have 14 x 14 patches at most, as the authors' have."""
    _, c, height, width = size
    return torch.randn(1, _FRAMES, min(height, 14) * min(width, 14), c), torch.randn(1, c)


def _joint_clip(size: Size) -> tuple[Tensor, ...]:
    patches, class_token = _clip(size)
    return (torch.cat([class_token[:, None], patches.flatten(1, 2)], dim=1),)


def _frame_features(size: Size) -> tuple[Tensor, ...]:
    return (torch.randn(size[0], _FRAMES, size[1]),)


def _features_of_frames(size: Size) -> tuple[Tensor, ...]:
    return (torch.randn(size[0], size[1], _FRAMES),)


def _positions(size: Size) -> int:
    return sum(height * width for height, width in _level_shapes(size[2]))


def _pyramid(size: Size) -> tuple[Tensor, ...]:
    """Return what an encoder gives: each position of each map is a query."""
    samples, c, length = size[0], size[1], _positions(size)
    x = torch.randn(samples, length, c)
    return x, torch.rand(samples, length, _LEVELS, 2), x.clone()


def _samples(size: Size) -> tuple[Tensor, ...]:
    samples, c, length = size[0], size[1], _positions(size)
    shape = (samples, length, _HEADS, _LEVELS, _POINTS)
    weight = torch.randn(shape).flatten(3).softmax(3).view(shape)
    return torch.randn(samples, length, _HEADS, c // _HEADS), torch.rand(*shape, 2), weight


# peers


class _First(nn.Module):
    """The first output alone: the others are places that get no gradient."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x_nchw: Tensor) -> Tensor:
        y: Tensor = self.block(x_nchw)[0]
        return y


def _fcv_dat(c: int, h: int) -> nn.Module:
    stride = max(1, h // 7)
    stage = 4 - stride.bit_length()
    sizes, rest = ((h, h), (h, h)), (0.0, 0.0, stride, -1, True, False, False, False, stage)
    return _First(peer_class("fightingcv_attention.attention.DAT", "DAttentionBaseline", *sizes, 4, c // 4, 1, *rest))


def _pool(c: int, h: int) -> nn.Module:
    return peer_class("timm.layers", "AttentionPool2d", c, h, num_heads=_HEADS)


def _rot_pool(c: int, h: int) -> nn.Module:
    return peer_class("timm.layers", "RotAttentionPool2d", c, num_heads=_HEADS)


def _attention(c: int, h: int) -> nn.Module:
    return peer_class("timm.layers", "Attention", c, num_heads=_HEADS, qkv_bias=True)


def _outlooker(c: int, h: int) -> nn.Module:
    return peer_class("timm.models.volo", "Outlooker", c, 3, 1, stride=2, num_heads=max(1, c // 32))


def _window_attention(c: int, h: int) -> nn.Module:
    return peer_class("timm.models.swin_transformer", "WindowAttention", c, 4, window_size=_WINDOW)


def _swin(shift: int) -> dict[str, Callable[[int, int], nn.Module]]:
    name = "SwinTransformerBlock"

    def of_timm(c: int, h: int) -> nn.Module:
        return peer_class("timm.models.swin_transformer", name, c, (h, h), 4, window_size=_WINDOW, shift_size=shift)

    def of_torchvision(c: int, h: int) -> nn.Module:
        return peer_class("torchvision.models.swin_transformer", name, c, 4, [_WINDOW] * 2, [shift] * 2)

    return {"timm": of_timm, "torchvision": of_torchvision}


CASES: tuple[Case, ...] = (
    Case("attention-pool2d", lambda c, h: {"channels": c, "feature_size": h}, {"timm": _pool}, TWENTY_EIGHT),
    Case("rot-attention-pool2d", channels(), {"timm": _rot_pool}, TWENTY_EIGHT),
    Case("dat-deform-attn", _dat("dat++")),
    Case("dat-deform-attn", _dat("dat"), {"fightingcv": _fcv_dat}, label="dat-deform-attn (dat)"),
    Case("divided-space-time", _embed(), inputs=_clip, maps=False),
    Case("joint-space-time", _embed(), inputs=_joint_clip, maps=False),
    Case("gltr", channels(), inputs=_frame_features, maps=False),
    Case("temporal-self-attention", channels(), inputs=_features_of_frames, maps=False),
    Case("mhsa", _embed(), {"timm": _attention}, TWENTY_EIGHT, inputs=_listed, maps=False),
    Case(
        "ms-deform-attn",
        lambda c, h: {"embed_dim": c, "level_shapes": _level_shapes(h)},
        inputs=_pyramid,
        maps=False,
    ),
    Case("ms-deform-core", lambda c, h: {"level_shapes": _level_shapes(h)}, inputs=_samples, maps=False),
    Case("multi-head-external-attention", _embed(), inputs=_listed, maps=False),
    Case(
        "external-attention-core",
        _embed(),
        {"fightingcv": fcv("ExternalAttention", "ExternalAttention")},
        inputs=_listed,
        maps=False,
    ),
    Case("outlooker", _narrow_heads, {"timm": _outlooker}, inputs=tokens, maps=False),
    Case("swin-block", _embed(), _swin(0), inputs=tokens, maps=False),
    Case("swin-block", _embed(shift=3), _swin(3), inputs=tokens, maps=False, label="swin-block (shifted)"),
    Case(
        "swin-window-attention",
        _embed(window_size=_WINDOW),
        {"timm": _window_attention},
        inputs=_windows,
        maps=False,
    ),
)


# pooling by attention


def lead_and_pixels(x: Tensor) -> Tensor:
    return torch.cat([mean_hw(x)[:, None], x.flatten(2).transpose(1, 2)], dim=1)


def lead_qkv(block: Block, z: Tensor) -> tuple[Tensor, ...]:
    weight, bias = block.qkv.weight.chunk(3), block.qkv.bias.chunk(3)
    projected = [F.linear(t, weight[i], bias[i]) for i, t in enumerate((z[:, :1], z, z))]
    return tuple(t.unflatten(2, (block.num_heads, -1)).transpose(1, 2) for t in projected)


def pooled(block: Block, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    y = (query * query.shape[3] ** -0.5 @ key.transpose(2, 3)).softmax(3) @ value
    return block.projection(y.transpose(1, 2).flatten(2))[:, 0]


def attention_pool2d(block: Block, x: Tensor) -> Tensor:
    return pooled(block, *lead_qkv(block, lead_and_pixels(x) + block.position))


def rot_attention_pool2d(block: Block, x: Tensor) -> Tensor:
    query, key, value = lead_qkv(block, lead_and_pixels(x))
    angle = block._angles(x.shape[2], x.shape[3], key).repeat_interleave(2, dim=1)
    pixels = key[:, :, 1:]
    turned = torch.stack([-pixels[..., 1::2], pixels[..., ::2]], dim=-1).flatten(3)
    key = torch.cat([key[:, :, :1], pixels * angle.cos() + turned * angle.sin()], dim=2)
    return pooled(block, query, key, value)


# tokens


def split_qkv(qkv: Tensor, heads: int) -> tuple[Tensor, ...]:
    n, length, _ = qkv.shape
    return qkv.reshape(n, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def attended(block: Block, x: Tensor, bias: Tensor | None = None) -> Tensor:
    query, key, value = split_qkv(block.qkv(x), block.num_heads)
    logits = query * block.scale @ key.transpose(-2, -1)
    weight = (logits if bias is None else logits + bias).softmax(-1)
    return (weight @ value).transpose(1, 2).flatten(2)


def mhsa(block: Block, x: Tensor) -> Tensor:
    return block.projection(attended(block, x))


def multi_head_external_attention(block: Block, x: Tensor) -> Tensor:
    n, length, _ = x.shape
    heads = block.expand(x).view(n, length, block.heads, -1).permute(0, 2, 1, 3)
    weight = block.memory_key(heads).softmax(-2)
    weight = weight / (1e-9 + weight.sum(-1, keepdim=True))
    return block.out(block.memory_value(weight).permute(0, 2, 1, 3).reshape(n, length, -1))


def mlp(block: Block, x: Tensor) -> Tensor:
    return block.contract(F.gelu(block.expand(block.norm2(x))))


def outlooker(block: Block, x: Tensor) -> Tensor:
    part, (n, h, w, c) = block.outlook, x.shape
    k, heads, z = part.kernel_size, part.num_heads, block.norm1(x)
    window = {"kernel_size": k, "padding": part.padding, "stride": part.stride}
    value = F.unfold(part.value(z).permute(0, 3, 1, 2), **window)
    value = value.reshape(n, heads, c // heads, k * k, -1).permute(0, 1, 4, 3, 2)
    pooled = F.avg_pool2d(z.permute(0, 3, 1, 2), part.stride, ceil_mode=True).permute(0, 2, 3, 1)
    weight = part.weight(pooled).reshape(n, -1, heads, k * k, k * k).permute(0, 2, 1, 3, 4)
    y = ((weight * part.scale).softmax(-1) @ value).permute(0, 1, 4, 3, 2).reshape(n, c * k * k, -1)
    z = x + part.projection(F.fold(y, (h, w), **window).permute(0, 2, 3, 1))
    return z + mlp(block, z)


# windows


def swin_window_attention(block: Block, x: Tensor, mask: Tensor | None = None) -> Tensor:
    (rows, columns), heads = block.window_size, block.num_heads
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")).flatten(1)
    step = place[:, :, None] - place[:, None, :]
    index = (step[0] + rows - 1) * (2 * columns - 1) + step[1] + columns - 1
    bias = block.table[index.view(-1)].view(rows * columns, rows * columns, heads).permute(2, 0, 1)[None]
    if mask is not None:
        bias = (bias + mask[:, None]).repeat(x.shape[0] // mask.shape[0], 1, 1, 1)
    return block.projection(attended(block, x, bias))


def partition(x: Tensor, rows: int, columns: int) -> Tensor:
    n, h, w, c = x.shape
    split = x.view(n, h // rows, rows, w // columns, columns, c)
    return split.permute(0, 1, 3, 2, 4, 5).reshape(-1, rows * columns, c)


def shift_mask(size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    region, count = torch.zeros(1, *size, 1), 0
    for high in (slice(-window[0]), slice(-window[0], -shift[0]), slice(-shift[0], None)):
        for wide in (slice(-window[1]), slice(-window[1], -shift[1]), slice(-shift[1], None)):
            region[:, high, wide] = count
            count += 1
    regions = partition(region, *window).squeeze(2)
    return torch.where(regions[:, None] != regions[:, :, None], -100.0, 0.0)


def swin_block(block: Block, x: Tensor) -> Tensor:
    (rows, columns), (n, h, w, _) = block.window_size, x.shape
    shift = block.shift if h > rows else (0, 0)
    z, mask = block.norm1(x), None
    if any(shift):
        z = torch.roll(z, (-shift[0], -shift[1]), (1, 2))
        mask = shift_mask((h, w), (rows, columns), shift)
    windows = swin_window_attention(block.attend, partition(z, rows, columns), mask)
    z = windows.view(n, h // rows, w // columns, rows, columns, -1).permute(0, 1, 3, 2, 4, 5).reshape(x.shape)
    z = x + (torch.roll(z, shift, (1, 2)) if any(shift) else z)
    return z + mlp(block, z)


# sampled points


def dat_grid(block: Block, rows: int, columns: int, shift: float) -> Tensor:
    axes = [torch.arange(size) + shift for size in (rows, columns)]
    spans = torch.tensor([rows, columns]) - (0 if block.centred else 1)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) / spans * 2 - 1


def dat_deform_attn(block: Block, x: Tensor) -> Tensor:
    (n, c, h, w), groups, heads = x.shape, block.groups, block.num_heads
    query = block.query(x)
    hidden = block.offset_conv(query.reshape(n * groups, -1, h, w)).permute(0, 2, 3, 1)
    offset = block.offset(F.gelu(block.offset_norm(hidden)))
    place = offset + dat_grid(block, *offset.shape[1:3], 0.5)
    place = place.tanh() if block.centred else place.clamp(-1, 1)
    sampled = F.grid_sample(x.reshape(n * groups, -1, h, w), place[..., (1, 0)], align_corners=True)
    sampled = sampled.reshape(n, c, 1, -1)
    key, value = (conv1x1(layer, sampled).reshape(n * heads, c // heads, -1) for layer in (block.key, block.value))
    logits = torch.einsum("bcm,bcp->bmp", query.reshape(n * heads, -1, h * w), key) * block.scale
    grid = dat_grid(block, h, w, 0.5 if block.centred else 0.0).reshape(1, h * w, 1, 2)
    step = (grid - place.reshape(n * groups, 1, -1, 2)) * 0.5
    table = block.table[None].expand(n, -1, -1, -1).reshape(n * groups, heads // groups, 2 * h - 1, 2 * w - 1)
    bias = F.grid_sample(table, step[..., (1, 0)], align_corners=True)
    weight = (logits + bias.reshape(logits.shape)).softmax(2)
    return conv1x1(block.projection, torch.einsum("bmp,bcp->bcm", weight, value).reshape(x.shape))


def ms_deform_core(block: Block, value: Tensor, place: Tensor, weight: Tensor) -> Tensor:
    n, _, heads, d = value.shape
    length, sizes, sampled = place.shape[1], block.level_shapes, []
    pieces = value.split([h * w for h, w in sizes], dim=1)
    grids = 2 * place - 1
    for level, (h, w) in enumerate(sizes):
        piece = pieces[level].flatten(2).transpose(1, 2).reshape(n * heads, d, h, w)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled.append(F.grid_sample(piece, grid, align_corners=False))
    weight = weight.transpose(1, 2).reshape(n * heads, 1, length, -1)
    y = (torch.stack(sampled, dim=-2).flatten(-2) * weight).sum(-1).view(n, heads * d, length)
    return y.transpose(1, 2).contiguous()


def ms_deform_attn(block: Block, query: Tensor, reference: Tensor, value: Tensor) -> Tensor:
    n, length, _ = query.shape
    shape = (n, length, block.num_heads, block.num_levels, block.num_points)
    value = block.value(value).view(n, value.shape[1], block.num_heads, -1)
    offset = block.offset(query).view(*shape, 2)
    weight = block.weight(query).view(*shape[:3], -1).softmax(-1).view(shape)
    sizes = torch.tensor([[w, h] for h, w in block.level_shapes])
    place = reference[:, :, None, :, None, :] + offset / sizes[None, None, None, :, None, :]
    return block.projection(ms_deform_core(block, value, place, weight))


# clips


def divided_space_time(block: Block, x: Tensor, class_token: Tensor) -> tuple[Tensor, Tensor]:
    n, frames, length, c = x.shape
    columns = x.permute(0, 2, 1, 3).reshape(n * length, frames, c)
    part = block.time_attention
    y = block.time_project(part.project(attended(part, block.time_norm(columns))))
    x = x + y.reshape(n, length, frames, c).permute(0, 2, 1, 3)
    leads = class_token[:, None].repeat(1, frames, 1).reshape(n * frames, 1, c)
    z, part = torch.cat([leads, x.reshape(n * frames, length, c)], dim=1), block.space_attention
    y = part.project(attended(part, block.space_norm(z))).view(n, frames, length + 1, c)
    patches, lead = (x + y[:, :, 1:]).reshape(n, -1, c), class_token + y[:, :, 0].mean(1)
    z = torch.cat([lead[:, None], patches], dim=1)
    z = z + block.mlp.reduce(F.gelu(block.mlp.expand(block.mlp_norm(z))))
    return z[:, 1:].view(n, frames, length, c), z[:, 0]


def joint_space_time(block: Block, x: Tensor) -> Tensor:
    x = x + block.attend.project(attended(block.attend, block.attention_norm(x)))
    return x + block.mlp.reduce(F.gelu(block.mlp.expand(block.mlp_norm(x))))


def temporal_self_attention(block: Block, x: Tensor) -> Tensor:
    def conv(layer: Any, t: Tensor) -> Tensor:
        return F.conv1d(t, layer.weight[:, :, None], layer.bias)

    query, key, value = (conv(layer, x) for layer in (block.query, block.key, block.value))
    weight = (query.transpose(1, 2) @ key).softmax(-1)
    y = (weight @ value.transpose(1, 2)).transpose(1, 2).contiguous()
    return block.norm(conv(block.project, y)) + x


def gltr(block: Block, x: Tensor) -> Tensor:
    x = x.transpose(1, 2)
    return temporal_self_attention(block.attend, torch.cat([x, *(conv(x) for conv in block.convs)], dim=1)).mean(2)


PLAIN: dict[str, Callable[..., Any]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(attention_pool2d, rot_attention_pool2d, mhsa, multi_head_external_attention, outlooker),
        *(swin_window_attention, swin_block, dat_deform_attn, ms_deform_core, ms_deform_attn),
        *(divided_space_time, joint_space_time, temporal_self_attention, gltr),
    )
}
