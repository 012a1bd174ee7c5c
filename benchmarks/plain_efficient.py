"""Plain PyTorch writings of the efficient, pooling and graph blocks; ``plain_sequence.py`` holds the others.

Windows, global tokens and hash buckets are written as a mask or map of all pairs, recurrences step by step.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from plain_sequence import heads, merge, read, weights
from torch import Tensor

Block = Any


# linear attention


def feature_read(query: Tensor, key: Tensor, value: Tensor, eps: float) -> Tensor:
    total = torch.einsum("nhjf,nhjd->nhfd", key, value)
    norm = torch.einsum("nhif,nhf->nhi", query, key.sum(dim=2)) + eps
    return torch.einsum("nhif,nhfd->nhid", query, total) / norm[..., None]


def linear(block: Block, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return feature_read(F.elu(query) + 1, F.elu(key) + 1, value, block.eps)


def linear_causal(block: Block, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key = F.elu(query) + 1, F.elu(key) + 1
    total = torch.einsum("nhjf,nhjd->nhjfd", key, value).cumsum(dim=2)
    norm = torch.einsum("nhif,nhif->nhi", query, key.cumsum(dim=2)) + block.eps
    return torch.einsum("nhif,nhifd->nhid", query, total) / norm[..., None]


def performer(block: Block, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scale = query.shape[-1] ** -0.25
    features = []
    for x, axes in ((query * scale, (-1,)), (key * scale, (-2, -1))):
        dash = torch.einsum("nhld,fd->nhlf", x, block.projection)
        exponent = dash - (x**2).sum(dim=-1, keepdim=True) / 2 - dash.amax(dim=axes, keepdim=True).detach()
        features.append(block.projection.shape[0] ** -0.5 * (torch.exp(exponent) + block.eps))
    return feature_read(features[0], features[1], value, 0.0)


def gated_linear(block: Block, query: Tensor, key: Tensor, value: Tensor, decay: Tensor) -> Tensor:
    query, state, out = query * query.shape[-1] ** -0.5, torch.zeros(()), []
    for t in range(query.shape[2]):
        state = decay[:, :, t, :, None].exp() * state + key[:, :, t, :, None] * value[:, :, t, None]
        out.append(torch.einsum("nhd,nhde->nhe", query[:, :, t], state))
    return torch.stack(out, dim=2)


def delta(block: Block, query: Tensor, key: Tensor, value: Tensor, beta: Tensor, decay: Any = None) -> Tensor:
    query, out = query * query.shape[-1] ** -0.5, []
    state = query.new_zeros(*query.shape[:2], query.shape[-1], value.shape[-1])
    for t in range(query.shape[2]):
        if decay is not None:
            state = decay[:, :, t, None, None].exp() * state
        error = value[:, :, t] - torch.einsum("nhd,nhde->nhe", key[:, :, t], state)
        state = state + key[:, :, t, :, None] * (beta[:, :, t, None] * error)[:, :, None]
        out.append(torch.einsum("nhd,nhde->nhe", query[:, :, t], state))
    return torch.stack(out, dim=2)


# patterns and approximations


def linformer(block: Block, x: Tensor) -> Tensor:
    key = torch.einsum("nlc,lk->nkc", block.key(x), block.compress_key[: x.shape[1]])
    value = torch.einsum("nlc,lk->nkc", block.value(x), block.compress_value[: x.shape[1]])
    query, key, value = (heads(y, block.num_heads) for y in (block.query(x), key, value))
    return block.out_proj(merge(read(weights(query, key, query.shape[-1] ** -0.5), value)))


def nystrom(block: Block, x: Tensor) -> Tensor:
    query, key, value = (heads(f(x), block.num_heads) for f in (block.query, block.key, block.value))
    query, key = query * query.shape[-1] ** -0.25, key * key.shape[-1] ** -0.25
    near, far = (y.unflatten(2, (block.num_landmarks, -1)).mean(dim=3) for y in (query, key))
    front, middle, back = weights(query, far, 1.0), weights(near, far, 1.0), weights(near, key, 1.0)
    inverse = middle.transpose(-2, -1) / middle.sum(dim=-2).amax(dim=-1)[..., None, None]
    one = torch.eye(middle.shape[-1])
    for _ in range(block.pinv_iterations):
        product = middle @ inverse
        inverse = 0.25 * inverse @ (13 * one - product @ (15 * one - product @ (7 * one - product)))
    return merge(front @ inverse @ (back @ value) + block.conv(value))


def reformer(block: Block, x: Tensor) -> Tensor:
    return block.out_proj(merge(read(block.attention(x)["attention"], heads(block.value(x), block.num_heads))))


def longformer(block: Block, x: Tensor, chosen: Tensor) -> Tensor:
    query, key, value = (heads(f(x), block.num_heads) for f in (block.query, block.key, block.value))
    position, scale = torch.arange(x.shape[1]), query.shape[-1] ** -0.5
    near = ((position[:, None] - position).abs() <= block.side) | chosen[:, None, None, :]
    local = read(weights(query, key, scale, near), value)
    projections = (block.query_global, block.key_global, block.value_global)
    query, key, value = (heads(f(x), block.num_heads) for f in projections)
    return torch.where(chosen[..., None], merge(read(weights(query, key, scale), value)), merge(local))


def bigbird(block: Block, x: Tensor) -> Tensor:
    return merge(read(block.attention(x)["attention"], heads(block.value(x), block.num_heads)))


# attention-free


def aft(block: Block, x: Tensor, bias: Tensor) -> Tensor:
    weight = torch.exp(bias)
    key = torch.exp(block.key(x))
    average = torch.einsum("ts,nsr->ntr", weight, key * block.value(x)) / torch.einsum("ts,nsr->ntr", weight, key)
    return block.out_proj(torch.sigmoid(block.query(x)) * average)


def aft_full(block: Block, x: Tensor) -> Tensor:
    weight = torch.exp(block.key(x)[:, None] + block.position_bias[: x.shape[1], : x.shape[1], None])
    average = (weight * block.value(x)[:, None]).sum(dim=2) / weight.sum(dim=2)
    return block.out_proj(torch.sigmoid(block.query(x)) * average)


def aft_full_by_products(block: Block, x: Tensor) -> Tensor:
    return aft(block, x, block.position_bias[: x.shape[1], : x.shape[1]])


def aft_simple(block: Block, x: Tensor) -> Tensor:
    key = torch.softmax(block.key(x), dim=1)
    return block.out_proj(torch.sigmoid(block.query(x)) * (key * block.value(x)).sum(dim=1, keepdim=True))


def aft_local(block: Block, x: Tensor) -> Tensor:
    position = torch.arange(x.shape[1])
    offset = position - position[:, None]
    banded = block.position_bias[: x.shape[1]].gather(1, (offset + block.reach).clamp(0, 2 * block.reach))
    return aft(block, x, banded.masked_fill(offset.abs() > block.reach, 0.0))


def aft_conv(block: Block, x: Tensor) -> Tensor:
    key = torch.exp(block.key(x))
    value = heads(block.value(x), block.num_heads)
    position, side = torch.arange(x.shape[1]), block.position_bias.shape[1] // 2
    offset = position - position[:, None]
    bias = block.position_bias[:, (offset + side).clamp(0, 2 * side)].masked_fill(offset.abs() > side, 0.0)
    weight = torch.exp(bias) * key.transpose(1, 2)[:, :, None]
    average = merge(read(weight, value) / weight.sum(dim=-1, keepdim=True))
    return block.out_proj(torch.sigmoid(block.query(x)) * average)


# pooling and sets


def mab(block: Block, x: Tensor, y: Tensor) -> Tensor:
    query = block.query(x)
    parts = (heads(z, block.num_heads) for z in (query, block.key(y), block.value(y)))
    split, key, value = parts
    out = query + merge(read(weights(split, key, block.scale), value))
    return out + torch.relu(block.feed_forward(out))


def sab(block: Block, x: Tensor) -> Tensor:
    return mab(block.mab, x, x)


def isab(block: Block, x: Tensor) -> Tensor:
    return mab(block.read, x, mab(block.gather, block.points.repeat(x.shape[0], 1, 1), x))


def pma(block: Block, x: Tensor) -> Tensor:
    return mab(block.mab, block.seeds.repeat(x.shape[0], 1, 1), x)


def perceiver(block: Block, latents: Tensor, x: Tensor) -> Tensor:
    source = block.source_norm(x)
    parts = (block.query(block.query_norm(latents)), block.key(source), block.value(source))
    query, key, value = (heads(y, block.num_heads) for y in parts)
    out = latents + block.out_proj(merge(read(weights(query, key, query.shape[-1] ** -0.5), value)))
    return out + block.mlp_out(F.gelu(block.mlp_in(block.mlp_norm(out))))


def slot(block: Block, x: Tensor, noise: Tensor) -> Tensor:
    x = block.norm_input(x)
    key, value = block.key(x), block.value(x)
    slots = block.mean + block.log_std.exp() * noise
    for _ in range(block.iterations):
        score = torch.einsum("nid,njd->nij", block.query(block.norm_slots(slots)), key) * block.scale
        share = score.softmax(dim=1) + block.eps
        update = torch.einsum("njd,nij->nid", value, share / share.sum(dim=-1, keepdim=True))
        slots = block.update(update.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
        slots = slots + block.mlp_out(torch.relu(block.mlp_in(block.norm_mlp(slots))))
    return slots


def gated_mil(block: Block, x: Tensor) -> Tensor:
    score = block.score(torch.tanh(block.hidden(x)) * torch.sigmoid(block.gate(x)))
    return torch.einsum("nmb,nmc->nbc", score.softmax(dim=1), x)


def han(block: Block, x: Tensor) -> Tensor:
    weight = torch.einsum("nmr,r->nm", torch.tanh(block.hidden(x)), block.context).softmax(dim=1)
    return (weight[..., None] * x).sum(dim=1)


# graphs


def gat(block: Block, x: Tensor, edges: Tensor) -> Tensor:
    node = heads(block.project(x), block.num_heads)
    target, source = (torch.einsum("nhld,hd->nhl", node, a) for a in (block.target, block.source))
    score = F.leaky_relu(target[..., None] + source[:, :, None], block.slope)
    weight = score.masked_fill(~edges[:, None], -torch.inf).softmax(dim=-1)
    return merge(read(weight, node)) + block.bias


def gat_v2(block: Block, x: Tensor, edges: Tensor) -> Tensor:
    source, target = heads(block.source(x), block.num_heads), heads(block.target(x), block.num_heads)
    pair = F.leaky_relu(target[:, :, :, None] + source[:, :, None], block.slope)
    score = torch.einsum("nhijd,hd->nhij", pair, block.score)
    weight = score.masked_fill(~edges[:, None], -torch.inf).softmax(dim=-1)
    return merge(read(weight, source)) + block.bias


PLAIN: dict[str, Callable[..., Tensor]] = {
    "linear-attention": linear,
    "linear-attention causal": linear_causal,
    "performer": performer,
    "gated-linear-attention": gated_linear,
    "delta-rule": delta,
    "gated-delta-rule": delta,
    "linformer": linformer,
    "nystrom-attention": nystrom,
    "reformer-attention": reformer,
    "longformer-attention": longformer,
    "bigbird-attention": bigbird,
    "aft-full": aft_full,
    "aft-simple": aft_simple,
    "aft-local": aft_local,
    "aft-conv": aft_conv,
    "mab": mab,
    "sab": sab,
    "isab": isab,
    "pma": pma,
    "perceiver-cross-attention": perceiver,
    "slot-attention": slot,
    "gated-mil-attention": gated_mil,
    "han-attention": han,
    "graph-attention": gat,
    "graph-attention-v2": gat_v2,
}
OTHERS: dict[str, dict[str, Callable[..., Tensor]]] = {"aft-full": {"two products": aft_full_by_products}}
