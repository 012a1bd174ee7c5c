"""Plain PyTorch writings of the formulas, with the parameters of the block that they are compared with.

Each is what one writes down from the paper or finds in the authors' code: the operators in the order of the formula,
nothing merged, nothing fused. ``blocks.py`` takes them where no library offers the block, and checks that they give
the block's numbers.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Block = Any


def conv1x1(layer: Any, x: Tensor) -> Tensor:
    return F.conv2d(x, layer.weight[:, :, None, None], layer.bias)


def mean_hw(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def scaled(x: Tensor, weight_nc: Tensor) -> Tensor:
    return x * weight_nc[:, :, None, None].expand_as(x)


def batch_norm(norm: Any, x: Tensor) -> Tensor:
    state = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return F.batch_norm(x, *state, norm.training, norm.momentum, norm.eps)


def conv_norm(unit: Any, x: Tensor) -> Tensor:
    return batch_norm(unit.norm, unit.conv(x))


def conv_norm_relu(unit: Any, x: Tensor) -> Tensor:
    return torch.relu_(conv_norm(unit, x))


# channel


def se(block: Block, x: Tensor) -> Tensor:
    return scaled(x, torch.sigmoid(block.excite(torch.relu(block.squeeze(mean_hw(x))))))


def effective_se(block: Block, x: Tensor) -> Tensor:
    return scaled(x, F.hardsigmoid(block.mix(mean_hw(x))))


def eca(block: Block, x: Tensor) -> Tensor:
    return scaled(x, torch.sigmoid(block.conv(mean_hw(x)[:, None])[:, 0]))


def ceca(block: Block, x: Tensor) -> Tensor:
    pad = block.kernel_size // 2
    around = F.pad(mean_hw(x)[:, None], (pad, pad), mode="circular")
    return scaled(x, torch.sigmoid(block.conv(around)[:, 0]))


def eca_ns(block: Block, x: Tensor) -> Tensor:
    k = block.kernel_size
    windows = F.unfold(mean_hw(x)[:, None, :, None], (k, 1), padding=(k // 2, 0)).transpose(1, 2)
    return scaled(x, torch.sigmoid(block.conv(windows)[..., 0]))


def fca(block: Block, x: Tensor) -> Tensor:
    size = block.dct_basis.shape[1:]
    pooled = x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, tuple(size))
    frequency = torch.sum(pooled * block.dct_basis, dim=[2, 3])
    return scaled(x, torch.sigmoid(block.excite(torch.relu(block.squeeze(frequency)))))


def gather_excite(block: Block, x: Tensor) -> Tensor:
    return scaled(x, torch.sigmoid(mean_hw(x)))


def gct(block: Block, x: Tensor) -> Tensor:
    embedding = (x.pow(2).sum((2, 3)) + block.eps).pow(0.5) * block.alpha
    norm = block.gamma / (embedding.pow(2).mean(1, keepdim=True) + block.eps).pow(0.5)
    return scaled(x, 1.0 + torch.tanh(embedding * norm + block.beta))


def gsop_channel(block: Block, x: Tensor) -> Tensor:
    feature = torch.relu(block.norm(block.reduce(torch.relu(x)))).flatten(2)
    m = feature.shape[2]
    centring = torch.eye(m) / m - torch.ones(m, m) / m**2
    covariance = feature.bmm(centring.expand(x.shape[0], m, m)).bmm(feature.transpose(1, 2))
    rows = block.row_filter(block.row_norm(covariance).flatten(1))
    return scaled(x, torch.sigmoid(block.expand(rows)))


def lct(block: Block, x: Tensor) -> Tensor:
    grouped = mean_hw(x).view(x.shape[0], block.groups, -1)
    centred = grouped - grouped.mean(2, keepdim=True)
    normal = centred / torch.sqrt(centred.pow(2).mean(2, keepdim=True) + block.eps)
    return scaled(x, torch.sigmoid(normal.flatten(1) * block.weight + block.bias))


def sk(block: Block, x: Tensor) -> Tensor:
    count = len(block.branches)
    inputs = x.chunk(count, dim=1) if getattr(block, "split_input", False) else [x] * count
    maps = torch.stack([torch.relu(branch(t)) for branch, t in zip(block.branches, inputs, strict=True)], dim=1)
    hidden = block.squeeze(mean_hw(maps.sum(1)))
    hidden = torch.relu(block.norm(hidden)) if hasattr(block, "norm") else hidden
    weight = block.select(hidden).unflatten(1, (maps.shape[1], -1)).softmax(1)
    return (maps * weight[..., None, None]).sum(1)


def split_attention(block: Block, x: Tensor) -> Tensor:
    splits = torch.relu(block.conv_norm(block.conv(x))).unflatten(1, (block.radix, -1))
    hidden = torch.relu(block.squeeze_norm(block.squeeze(mean_hw(splits.sum(1)))))
    weight = block.select(hidden).unflatten(1, (block.radix, -1)).softmax(1)
    return (splits * weight[..., None, None]).sum(1)


def srm(block: Block, x: Tensor) -> Tensor:
    flat = x.reshape(*x.shape[:2], -1)
    style = torch.stack([flat.mean(2), (flat.var(2) + block.eps).sqrt()], dim=2)
    return scaled(x, torch.sigmoid(block.norm((style * block.style_weight).sum(2))))


# mixed


def bam(block: Block, x: Tensor) -> Tensor:
    channel = block.channel(mean_hw(x))[:, :, None, None].expand_as(x)
    return (1 + torch.sigmoid(channel * block.spatial(x).expand_as(x))) * x


def cbam(block: Block, x: Tensor) -> Tensor:
    pools = (mean_hw(x), F.adaptive_max_pool2d(x, 1).flatten(1))
    answers = [block.excite(torch.relu(block.squeeze(pooled))) for pooled in pools]
    y = scaled(x, torch.sigmoid(answers[0] + answers[1]))
    maps = torch.cat([y.max(1, keepdim=True).values, y.mean(1, keepdim=True)], dim=1)
    kernel = torch.cat([block.kernel_max, block.kernel_mean], dim=1)
    return y * torch.sigmoid(block.norm(F.conv2d(maps, kernel, padding=block.kernel_size // 2)))


def light_cbam(block: Block, x: Tensor) -> Tensor:
    pooled = 0.5 * (mean_hw(x) + F.adaptive_max_pool2d(x, 1).flatten(1))
    y = scaled(x, torch.sigmoid(block.excite(torch.relu(block.squeeze(pooled)))))
    plane = 0.5 * (y.mean(1, keepdim=True) + y.max(1, keepdim=True).values)
    return y * torch.sigmoid(block.norm(block.spatial(plane)))


def strips(x: Tensor) -> tuple[Tensor, Tensor]:
    return F.adaptive_avg_pool2d(x, (None, 1)).squeeze(3), F.adaptive_avg_pool2d(x, (1, None)).squeeze(2)


def coordinate_attention(block: Block, x: Tensor) -> Tensor:
    rows, columns = strips(x)
    hidden = block.norm(conv1x1(block.squeeze, torch.cat([rows, columns], 2)[..., None]).squeeze(3))
    hidden = hidden * F.relu6(hidden + 3) / 6
    of_rows, of_columns = hidden.split([x.shape[2], x.shape[3]], dim=2)
    height = torch.sigmoid(conv1x1(block.height, of_rows[..., None]))
    width = torch.sigmoid(conv1x1(block.width, of_columns[:, :, None, :]))
    return x * width * height


def ela(block: Block, x: Tensor) -> Tensor:
    rows, columns = (torch.sigmoid(block.norm(block.conv(strip))) for strip in strips(x))
    return x * rows[:, :, :, None] * columns[:, :, None, :]


def split_ela(block: Block, x: Tensor) -> Tensor:
    gates = [F.silu(s.norm(s.conv(v))).sigmoid() for s, v in zip((block.height, block.width), strips(x), strict=True)]
    return x * gates[0][:, :, :, None] * gates[1][:, :, None, :]


def ema(block: Block, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    u = x.reshape(n * block.groups, -1, h, w)
    rows, columns = strips(u)
    strip = conv1x1(block.strip, torch.cat([rows, columns], 2)[..., None]).squeeze(3)
    height, width = strip.split([h, w], dim=2)
    first = block.norm(u * height[:, :, :, None].sigmoid() * width[:, :, None, :].sigmoid())
    second = block.local(u)
    share = [mean_hw(t).unsqueeze(1).softmax(2) for t in (first, second)]
    d = u.shape[1]
    weight = share[0] @ second.reshape(-1, d, h * w) + share[1] @ first.reshape(-1, d, h * w)
    return (u * weight.view(-1, 1, h, w).sigmoid()).reshape(n, c, h, w)


def gam(block: Block, x: Tensor) -> Tensor:
    answer = block.excite(torch.relu(block.squeeze(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
    y = x * answer.sigmoid()
    return y * block.spatial(y).sigmoid()


def mlca(block: Block, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    s = block.local_size
    local = F.adaptive_avg_pool2d(x, s)
    whole = block.whole(mean_hw(local)[:, None])[:, 0]
    sequence = block.local(local.view(n, c, -1).transpose(-1, -2).reshape(n, 1, -1))
    local = sequence.view(n, s * s, c).transpose(-1, -2).reshape(n, c, s, s).sigmoid()
    whole = F.adaptive_avg_pool2d(whole.sigmoid()[:, :, None, None], s)
    weight = whole * (1 - block.local_weight) + local * block.local_weight
    return x * F.adaptive_avg_pool2d(weight, (h, w))


def nam(block: Block, x: Tensor) -> Tensor:
    y = block.norm(x)
    share = block.norm.weight.detach().abs() / block.norm.weight.detach().abs().sum()
    y = (y.permute(0, 2, 3, 1).contiguous() * share).permute(0, 3, 1, 2).contiguous()
    return torch.sigmoid(y) * x


def scse(block: Block, x: Tensor) -> Tensor:
    channel = scaled(x, torch.sigmoid(block.excite(torch.relu(block.squeeze(mean_hw(x))))))
    return torch.max(channel, x * torch.sigmoid(block.spatial(x)))


def sge(block: Block, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    u = x.reshape(n * block.groups, -1, h, w)
    likeness = (u * F.adaptive_avg_pool2d(u, 1)).sum(1).view(n * block.groups, -1)
    centred = likeness - likeness.mean(1, keepdim=True)
    t = (centred / (centred.std(1, keepdim=True) + block.eps)).view(n, block.groups, h, w)
    t = (t * block.weight[:, None, None] + block.bias[:, None, None]).view(-1, 1, h, w)
    return (u * torch.sigmoid(t)).view(n, c, h, w)


def shuffle_attention(block: Block, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    first, second = x.reshape(n * block.groups, -1, h, w).chunk(2, dim=1)
    pooled = mean_hw(first) * block.channel_weight + block.channel_bias
    first = scaled(first, pooled.sigmoid())
    logits = block.norm(second) * block.pixel_weight[:, None, None] + block.pixel_bias[:, None, None]
    y = torch.cat([first, second * logits.sigmoid()], dim=1).reshape(n, c, h, w)
    return y.reshape(n, 2, -1, h, w).permute(0, 2, 1, 3, 4).reshape(n, c, h, w)


def simam(block: Block, x: Tensor) -> Tensor:
    squared = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
    variance = squared.sum(dim=[2, 3], keepdim=True) / (x.shape[2] * x.shape[3] - 1)
    return x * torch.sigmoid(squared / (4 * (variance + block.e_lambda)) + 0.5)


def triplet_attention(block: Block, x: Tensor) -> Tensor:
    def gated(gate: Any, t: Tensor) -> Tensor:
        pooled = torch.cat([t.max(1, keepdim=True).values, t.mean(1, keepdim=True)], dim=1)
        return t * torch.sigmoid(gate.norm(gate.conv(pooled)))

    first = gated(block.channel_width, x.permute(0, 2, 1, 3).contiguous()).permute(0, 2, 1, 3).contiguous()
    second = gated(block.height_channel, x.permute(0, 3, 2, 1).contiguous()).permute(0, 3, 2, 1).contiguous()
    return 1 / 3 * (first + second + gated(block.height_width, x))


# self-attention


def polarized_parallel(block: Block, x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    pool = conv1x1(block.channel_query, x).flatten(2).softmax(2)
    context = conv1x1(block.channel_value, x).flatten(2) @ pool.transpose(1, 2)
    channel = conv1x1(block.channel_out, context[..., None]).sigmoid()
    query = mean_hw(conv1x1(block.spatial_query, x)).unsqueeze(1)
    spatial = (query @ conv1x1(block.spatial_value, x).flatten(2)).softmax(2).view(n, 1, h, w).sigmoid()
    return x * spatial + x * channel


def polarized_sequential(block: Block, x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    pool = conv1x1(block.channel_query, x).flatten(2).softmax(2)
    context = conv1x1(block.channel_value, x).flatten(2) @ pool.transpose(1, 2)
    hidden = torch.relu(block.channel_norm(block.channel_reduce(context.squeeze(2))))
    y = scaled(x, torch.sigmoid(block.channel_expand(hidden)))
    query = mean_hw(conv1x1(block.spatial_query, y)).unsqueeze(1)
    weight = conv1x1(block.spatial_value, y).flatten(2).softmax(2)
    return y * torch.sigmoid((query @ weight).view(n, 1, h, w))


def global_context(block: Block, x: Tensor) -> Tensor:
    weight = conv1x1(block.attend, x).flatten(2).softmax(2)
    context = torch.matmul(x.flatten(2).unsqueeze(1), weight.unsqueeze(-1)).view(*x.shape[:2])
    part = block.add
    return x + part.expand(torch.relu(part.norm(part.reduce(context))))[:, :, None, None]


def tokens(layer: Any, x: Tensor) -> Tensor:
    return conv1x1(layer, x).flatten(2)


def non_local(block: Block, x: Tensor) -> Tensor:
    theta, phi, g = (tokens(layer, x) for layer in (block.theta, block.phi, block.g))
    weight = (theta.transpose(1, 2) @ phi * block.scale).softmax(2)
    y = (weight @ g.transpose(1, 2)).transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])
    return block.norm(conv1x1(block.out, y)) + x


def disentangled_non_local(block: Block, x: Tensor) -> Tensor:
    maps = block.attention(x)
    value = tokens(block.value, x).transpose(1, 2)
    y = block.gamma * (maps["pairwise"] @ value) + maps["unary"] @ value
    return x + y.transpose(1, 2).reshape(x.shape)


def danet_position_attention(block: Block, x: Tensor) -> Tensor:
    query, key, value = (tokens(layer, x) for layer in (block.query, block.key, block.value))
    weight = torch.bmm(query.transpose(1, 2), key).softmax(-1)
    return block.gamma * torch.bmm(value, weight.transpose(1, 2)).view(x.shape) + x


def danet_channel_attention(block: Block, x: Tensor) -> Tensor:
    flat = x.reshape(*x.shape[:2], -1)
    energy = torch.bmm(flat, flat.transpose(1, 2))
    weight = (energy.max(-1, keepdim=True).values.expand_as(energy) - energy).softmax(-1)
    return block.gamma * torch.bmm(weight, flat).view(x.shape) + x


def criss_cross_attention(block: Block, x: Tensor) -> Tensor:
    h = x.shape[2]
    query, key, value = (conv1x1(layer, x) for layer in (block.query, block.key, block.value))
    itself = torch.diag(torch.full((h,), float("-inf")))
    column = torch.einsum("nchw,nciw->nwhi", query, key) + itself
    row = torch.einsum("nchw,nchj->nhwj", query, key)
    weight = torch.cat([column.transpose(1, 2), row], dim=3).softmax(3)
    y = torch.einsum("nciw,nhwi->nchw", value, weight[..., :h])
    return block.gamma * (y + torch.einsum("nchj,nhwj->nchw", value, weight[..., h:])) + x


def external_attention(block: Block, x: Tensor) -> Tensor:
    weight = conv1x1(block.memory_key, conv1x1(block.embed, x)).flatten(2).softmax(2)
    weight = (weight / (1e-9 + weight.sum(1, keepdim=True))).view(x.shape[0], -1, *x.shape[2:])
    y = block.norm(conv1x1(block.out, conv1x1(block.memory_value, weight)))
    return torch.relu(y + x)


def ema_unit(block: Block, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    flat = F.conv2d(x, block.embed_weight[:, :, None, None], block.embed_bias).view(n, c, h * w)
    bases = block.bases.repeat(n, 1, 1)
    with torch.no_grad():
        for _ in range(block.iterations):
            weight = torch.bmm(flat.transpose(1, 2), bases).softmax(2)
            bases = torch.bmm(flat, weight / (1e-6 + weight.sum(1, keepdim=True)))
            bases = bases / (1e-6 + bases.norm(dim=1, keepdim=True))
    y = torch.relu(bases.matmul(weight.transpose(1, 2)).view(n, c, h, w))
    return torch.relu(block.norm(conv1x1(block.out, y)) + x)


def axial_attention(block: Block, x: Tensor) -> Tensor:
    total = 0.0
    for axis in (0, 1):
        lines = x.permute(0, 3, 2, 1) if axis == 0 else x.permute(0, 2, 3, 1)
        flat = lines.reshape(-1, lines.shape[2], lines.shape[3])
        query, key, value = (
            t.unflatten(2, (block.num_heads, -1)).transpose(1, 2) for t in block.qkv[axis](flat).chunk(3, dim=2)
        )
        y = (query @ key.transpose(2, 3) * block.scale).softmax(3) @ value
        y = block.projection[axis](y.transpose(1, 2).flatten(2)).view(lines.shape)
        total = total + (y.permute(0, 3, 2, 1) if axis == 0 else y.permute(0, 3, 1, 2))
    return total


def bot_mhsa(block: Block, x: Tensor) -> Tensor:
    inner = block.num_heads * block.head_dim
    value = tokens(block.qkv, x)[:, 2 * inner :].unflatten(1, (block.num_heads, -1))
    y = block.attention(x)["pairwise"] @ value.transpose(2, 3)
    return y.transpose(2, 3).reshape(x.shape)


def halo_attention(block: Block, x: Tensor) -> Tensor:
    query, key, value, row, column = block._blocks(x)
    n, heads, places = query.shape[:3]
    shape = (n, heads, places, block.window_size, block.window_size)
    place = row.unsqueeze(-1).expand(shape) + column.unsqueeze(-2).expand(shape)
    weight = (block.scale * query @ key.transpose(2, 3) + place.flatten(3)).softmax(3)
    return block._unblock(weight @ value, x).permute(0, 3, 1, 2)


def lambda_layer(block: Block, x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    query, key, value = block.qkv(x).split(block.sizes, dim=1)
    query = block.query_norm(query).view(n, block.num_heads, -1, h * w)
    value = block.value_norm(value).view(n, 1, -1, h * w)
    key = key.reshape(n, 1, -1, h * w).softmax(-1)
    content = torch.einsum("nukm,nuvm->nkv", key, value)
    of_content = torch.einsum("nhkm,nkv->nhvm", query, content)
    weight = block.place.weight.unsqueeze(2)
    padding = (0, block.place.padding[0], block.place.padding[1])
    place = F.conv3d(value.view(n, 1, -1, h, w), weight, block.place.bias, padding=padding).flatten(3)
    of_place = torch.einsum("nhkm,nkvm->nhvm", query, place)
    return (of_content + of_place).reshape(n, -1, h, w)


def outlook_attention(block: Block, x: Tensor) -> Tensor:
    n, h, w, c = x.shape
    k, heads = block.kernel_size, block.num_heads
    value = F.unfold(block.value(x).permute(0, 3, 1, 2), k, padding=k // 2)
    value = value.reshape(n, heads, c // heads, k * k, h * w).permute(0, 1, 4, 3, 2)
    weight = block.weight(x).reshape(n, h * w, heads, k * k, k * k).permute(0, 2, 1, 3, 4)
    y = ((weight * block.scale).softmax(-1) @ value).permute(0, 1, 4, 3, 2).reshape(n, c * k * k, h * w)
    return block.projection(F.fold(y, (h, w), k, padding=k // 2).permute(0, 2, 3, 1))


def bat(block: Block, x: Tensor) -> Tensor:
    hidden = torch.relu(block.reduce(x))
    rows, columns = block._matrices(hidden)
    n, _, h, w = hidden.shape
    rows, columns = (
        torch.einsum("ngij,ab->ngiajb", t, torch.eye(size // block.block_size)).reshape(n, block.groups, size, size)
        for t, size in ((rows, h), (columns, w))
    )
    grouped = hidden.view(n, block.groups, -1, h, w)
    mixed = (rows.unsqueeze(2) @ grouped @ columns.unsqueeze(2)).reshape(hidden.shape)
    y = torch.relu(block.expand(torch.relu(block.mix(mixed))))
    return x + F.dropout2d(y, block.dropout, block.training)


def double_attention(block: Block, x: Tensor) -> Tensor:
    feature, gather, spread = (tokens(layer, x) for layer in (block.feature, block.gather, block.distribute))
    descriptors = torch.bmm(feature, gather.softmax(2).transpose(1, 2))
    z = torch.bmm(descriptors, spread.softmax(1)).view(x.shape[0], -1, *x.shape[2:])
    return x + conv1x1(block.reconstruct, z) if block.residual else conv1x1(block.reconstruct, z)


def double_attention_positions(block: Block, x: Tensor) -> Tensor:
    feature, gather, spread = (tokens(layer, x) for layer in (block.feature, block.gather, block.distribute))
    descriptors = torch.bmm(feature, gather.softmax(2).transpose(1, 2))
    z = torch.bmm(descriptors.transpose(1, 2), spread.softmax(2)).view(x.shape[0], -1, *x.shape[2:])
    return x + conv1x1(block.reconstruct, z)


def cot_layer(block: Block, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    k = block.kernel_size
    context = block.context(x)
    weight = block.weight_norm(block.weight(block.embed(torch.cat([x, context], 1)))).view(n, 1, -1, k * k, h * w)
    windows = F.unfold(block.value(x), k, padding=k // 2).view(n, -1, weight.shape[2], k * k, h * w)
    y = F.silu(block.norm((windows * weight).sum(3).view(n, c, h, w)))
    part = block.fusion
    hidden = torch.relu(part.norm(part.squeeze(mean_hw(y + context))))
    share = part.excite(hidden).view(n, c, 2).softmax(2)
    return (torch.stack([y, context], 2) * share[..., None, None]).sum(2)


# temporal


def temporal_adaptive_module(block: Block, x: Tensor) -> Tensor:
    frames, channels, h, w = x.shape
    n, t = frames // block.num_frames, block.num_frames
    clips = x.view(n, t, channels, h, w).transpose(1, 2).contiguous()
    pooled = F.adaptive_avg_pool2d(clips.view(n * channels, t, h, w), 1).view(n * channels, t)
    hidden = torch.relu(block.kernel_norm(block.kernel_hidden(pooled)))
    kernel = block.kernel(hidden).softmax(-1).view(n * channels, 1, -1, 1)
    hidden = torch.relu(block.scale_norm(block.scale_hidden(pooled.view(n, channels, t))))
    scaled_clips = clips * block.scale(hidden).sigmoid()[..., None, None]
    folded = scaled_clips.view(1, n * channels, t, h * w)
    y = F.conv2d(folded, kernel, padding=(kernel.shape[2] // 2, 0), groups=n * channels)
    return y.view(n, channels, t, h, w).transpose(1, 2).reshape(x.shape)


def motion_excitation(block: Block, x: Tensor) -> Tensor:
    frames, _, h, w = x.shape
    t = block.num_frames
    squeezed = block.squeeze_norm(block.squeeze(x))
    moved = block.transform(squeezed).view(frames // t, t, -1, h, w)
    change = moved[:, 1:] - squeezed.view(frames // t, t, -1, h, w)[:, :-1]
    change = F.pad(change, (0, 0, 0, 0, 0, 0, 0, 1)).view(frames, -1, h, w)
    weight = block.excite_norm(block.excite(mean_hw(change))).sigmoid()
    return x + x * (weight - 0.5)[:, :, None, None].expand_as(x)


PLAIN: dict[str, Callable[[Block, Tensor], Tensor]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(se, effective_se, eca, ceca, eca_ns, fca, gather_excite, gct, gsop_channel, lct, sk, split_attention, srm),
        *(bam, cbam, light_cbam, coordinate_attention, ela, split_ela, ema, gam, mlca, nam, scse, sge),
        *(shuffle_attention, simam, triplet_attention, polarized_parallel, polarized_sequential, global_context),
        *(non_local, disentangled_non_local, danet_position_attention, danet_channel_attention, criss_cross_attention),
        *(external_attention, ema_unit, axial_attention, bot_mhsa, halo_attention, lambda_layer),
        *(outlook_attention, bat),
        *(double_attention, double_attention_positions, cot_layer, temporal_adaptive_module, motion_excitation),
    )
} | {"sk-linear": sk}
