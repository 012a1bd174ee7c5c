"""Plain PyTorch writings of the sequence blocks' formulas, with the parameters of the block they are compared with.

Each follows the formula operator by operator: scores of all pairs, mask, softmax, product with the values; recurrences
step by step. ``sequence.py`` checks that they give the block's numbers.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Block = Any


def heads(x: Tensor, number: int) -> Tensor:
    return x.view(x.shape[0], x.shape[1], number, -1).transpose(1, 2)


def merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


def triangle(length: int, window: int | None = None) -> Tensor:
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    return seen if window is None else seen.triu(1 - window)


def weights(query: Tensor, key: Tensor, scale: float, seen: Tensor | None = None, bias: Tensor | float = 0.0) -> Tensor:
    score = torch.einsum("nhid,nhjd->nhij", query, key) * scale + bias
    return (score if seen is None else score.masked_fill(~seen, -torch.inf)).softmax(dim=-1)


def read(weight: Tensor, value: Tensor) -> Tensor:
    return torch.einsum("nhij,nhjd->nhid", weight, value)


def turn(x: Tensor, base: float, interleaved: bool) -> Tensor:
    size = x.shape[-1]
    angle = torch.arange(x.shape[-2])[:, None] * base ** (-torch.arange(0, size, 2) / size)
    if interleaved:
        angle = angle.repeat_interleave(2, dim=-1)
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    else:
        angle = torch.cat([angle, angle], dim=-1)
        turned = torch.cat([-x[..., size // 2 :], x[..., : size // 2]], dim=-1)
    return x * angle.cos() + turned * angle.sin()


# multi-head


def multi_head(block: Block, x: Tensor) -> Tensor:
    query, key, value = (heads(y, block.num_heads) for y in block.in_proj(x).chunk(3, dim=-1))
    return block.output(merge(read(weights(query, key, query.shape[-1] ** -0.5), value)))


def grouped(block: Block, x: Tensor) -> Tensor:
    query = heads(block.norm_query(block.query(x)), block.num_heads)
    key, value = heads(block.norm_key(block.key(x)), block.num_kv_heads), heads(block.value(x), block.num_kv_heads)
    if block.rotary_base is not None:
        query, key = (turn(y, block.rotary_base, block.rotary_layout == "interleaved") for y in (query, key))
    repeats = block.num_heads // block.num_kv_heads
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    seen = triangle(x.shape[1], getattr(block, "window_size", None))
    if not hasattr(block, "sinks"):
        return block.output(merge(read(weights(query, key, query.shape[-1] ** -0.5, seen), value)))
    return block.output(merge(with_sink(block.sinks, query, key, value, seen)))


def with_sink(sinks: Tensor, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
    score = torch.einsum("nhid,nhjd->nhij", query, key) * query.shape[-1] ** -0.5
    score = score if seen is None else score.masked_fill(~seen, -torch.inf)
    sink = sinks.view(1, -1, 1, 1).expand(*score.shape[:3], 1)
    return read(torch.cat([score, sink], dim=-1).softmax(dim=-1)[..., :-1], value)


def attention_sink(block: Block, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return with_sink(block.sinks, query, key, value, None)


def rotary(block: Block, x: Tensor) -> Tensor:
    query, key, value = (heads(y, block.num_heads) for y in block.in_proj(x).chunk(3, dim=-1))
    query, key = (turn(y, block.rotary_base, block.rotary_layout == "interleaved") for y in (query, key))
    return block.output(merge(read(weights(query, key, query.shape[-1] ** -0.5), value)))


def alibi(block: Block, x: Tensor) -> Tensor:
    query, key, value = (heads(y, block.num_heads) for y in block.in_proj(x).chunk(3, dim=-1))
    position = torch.arange(x.shape[1])
    bias = -block.slopes[:, None, None] * (position[:, None] - position).abs()
    weight = weights(query, key, query.shape[-1] ** -0.5, triangle(x.shape[1]), bias)
    return block.output(merge(read(weight, value)))


def shaw(block: Block, x: Tensor) -> Tensor:
    query, key, value = (heads(y, block.num_heads) for y in block.in_proj(x).chunk(3, dim=-1))
    far, position = block.max_relative_position, torch.arange(x.shape[1])
    row = (position - position[:, None]).clamp(-far, far) + far
    score = torch.einsum("nhid,nhjd->nhij", query, key)
    score = score + torch.einsum("nhid,ijd->nhij", query, block.relative_keys(row))
    weight = (score * query.shape[-1] ** -0.5).softmax(dim=-1)
    return block.output(merge(read(weight, value) + torch.einsum("nhij,ijd->nhid", weight, block.relative_values(row))))


def talking(block: Block, x: Tensor) -> Tensor:
    query, key = heads(block.query(x), block.num_heads), heads(block.key(x), block.num_heads)
    score = torch.einsum("nhid,nhjd->nhij", query, key) * block.scale
    weight = torch.einsum("nhij,kh->nkij", score, block.talk_before.weight).softmax(dim=-1)
    weight = torch.einsum("nkij,vk->nvij", weight, block.talk_after.weight)
    return block.output(merge(read(weight, heads(block.value(x), block.value_heads))))


def t5(block: Block, x: Tensor) -> Tensor:
    query, key, value = (heads(f(x), block.num_heads) for f in (block.query, block.key, block.value))
    position = torch.arange(x.shape[1])
    bucket = block._bucket(position - position[:, None])
    bias = block.relative_bias(bucket).permute(2, 0, 1)[None]
    return block.output(merge(read(weights(query, key, 1.0, bias=bias), value)))


def vit(block: Block, x: Tensor) -> Tensor:
    query, key, value = (heads(y, block.num_heads) for y in block.qkv(x).chunk(3, dim=-1))
    return block.output(merge(read(weights(query, key, query.shape[-1] ** -0.5), value)))


def differential(block: Block, x: Tensor) -> Tensor:
    query, key = (turn(heads(f(x), 2 * block.num_heads), 10000.0, True) for f in (block.query, block.key))
    value = heads(block.value(x), block.num_heads)
    weight = weights(query, key, query.shape[-1] ** -0.5, triangle(x.shape[1])).unflatten(1, (-1, 2))
    first, second = (block.lambda_query * block.lambda_key).sum(dim=-1).exp()
    weight = weight[:, :, 0] - (first - second + block.lambda_init) * weight[:, :, 1]
    return block.out_proj(merge(block.norm(read(weight, value)) * (1 - block.lambda_init)))


def latent(block: Block, x: Tensor) -> Tensor:
    query = heads(block.query_up(block.query_down(x)), block.num_heads)
    query, query_turned = query.split([block.nope_dim, block.rope_dim], dim=-1)
    small, key_turned = block.kv_down(x).split([block.kv_norm.weight.shape[0], block.rope_dim], dim=-1)
    key, value = heads(block.kv_up(block.kv_norm(small)), block.num_heads).split(
        [block.nope_dim, block.value_dim], dim=-1
    )
    query_turned = turn(query_turned, block.rope_base, True)
    key_turned = turn(key_turned[:, None], block.rope_base, True).expand(-1, block.num_heads, -1, -1)
    query, key = torch.cat([query, query_turned], dim=-1), torch.cat([key, key_turned], dim=-1)
    return block.out_proj(merge(read(weights(query, key, block.scale, triangle(x.shape[1])), value)))


# scoring, decoders


def dot_score(block: Block, query: Tensor, key: Tensor) -> Tensor:
    return torch.einsum("nld,nmd->nlm", query, key)


def bilinear_score(block: Block, query: Tensor, key: Tensor) -> Tensor:
    return torch.einsum("nld,de,nme->nlm", query, block.weight, key)


def additive_score(block: Block, query: Tensor, key: Tensor) -> Tensor:
    hidden = torch.tanh(block.query(query)[:, :, None] + block.key(key)[:, None])
    return torch.einsum("nlmd,d->nlm", hidden, block.vector.weight[0])


def soft(block: Block, query: Tensor, key: Tensor) -> Tensor:
    weight = (torch.einsum("nld,nmd->nlm", query, key) * query.shape[-1] ** -0.5).softmax(dim=-1)
    return torch.einsum("nlm,nmd->nld", weight, key)


def hard(block: Block, query: Tensor, key: Tensor) -> Tensor:
    weight = (torch.einsum("nld,nmd->nlm", query, key) * query.shape[-1] ** -0.5).softmax(dim=-1)
    choice = F.one_hot(weight.argmax(dim=-1), weight.shape[-1]).to(weight.dtype)
    if block.training:
        choice = choice - weight.detach() + weight
    return torch.einsum("nlm,nmd->nld", choice, key)


def bahdanau(block: Block, embedding: Tensor, state: Tensor, key: Tensor) -> Tensor:
    states = []
    for step in range(embedding.shape[1]):
        hidden = torch.tanh(block.score.query(state)[:, None] + block.score.key(key))
        weight = block.score.vector(hidden).squeeze(-1).softmax(dim=-1)
        given = block.input(embedding[:, step]) + block.context(torch.einsum("ns,nsc->nc", weight, key))
        reset, update = torch.sigmoid(given[:, : 2 * block.hidden_dim] + block.gates(state)).chunk(2, dim=-1)
        candidate = torch.tanh(given[:, 2 * block.hidden_dim :] + block.candidate(reset * state))
        state = (1 - update) * state + update * candidate
        states.append(state)
    return torch.stack(states, dim=1)


def luong_weights(block: Block, query: Tensor, key: Tensor, near: Tensor | None) -> Tensor:
    score = torch.einsum("ntc,nsc->nts", block.score_matrix(query), key)
    return (score if near is None else score.masked_fill(~near, -torch.inf)).softmax(dim=-1)


def luong(block: Block, query: Tensor, key: Tensor) -> Tensor:
    context = torch.einsum("nts,nsc->ntc", luong_weights(block, query, key, None), key)
    return torch.tanh(block.output(torch.cat([context, query], dim=-1)))


def luong_m(block: Block, query: Tensor, key: Tensor, lengths: Tensor) -> Tensor:
    words, source = lengths[:, None, None] - 1, torch.arange(key.shape[1])
    centre = torch.minimum(torch.arange(query.shape[1])[None, :, None], words - 1)
    near = ((source - centre).abs() <= block.half_window) & (source < words)
    context = torch.einsum("nts,nsc->ntc", luong_weights(block, query, key, near), key)
    return torch.tanh(block.output(torch.cat([context, query], dim=-1)))


def luong_p(block: Block, query: Tensor, key: Tensor, lengths: Tensor) -> Tensor:
    words, source = lengths[:, None, None] - 1, torch.arange(key.shape[1])
    centre = words * torch.sigmoid(block.position_vector(torch.tanh(block.position_matrix(query))))
    near = ((source - centre.floor()).abs() <= block.half_window) & (source < words)
    gaussian = torch.exp(-((source - centre) ** 2) / (2 * block.sigma**2))
    context = torch.einsum("nts,nsc->ntc", luong_weights(block, query, key, near) * gaussian, key)
    return torch.tanh(block.output(torch.cat([context, query], dim=-1)))


# positions


def sinusoidal(block: Block, x: Tensor) -> Tensor:
    angle = torch.arange(x.shape[1])[:, None] * block.base ** (-torch.arange(0, x.shape[2], 2) / x.shape[2])
    table = torch.zeros(x.shape[1], x.shape[2])
    table[:, ::2], table[:, 1::2] = angle.sin(), angle.cos()
    return x + table


def learned(block: Block, x: Tensor) -> Tensor:
    return x + block.table(torch.arange(x.shape[1]))


def rotary_positions(block: Block, x: Tensor) -> Tensor:
    return turn(x, block.base, False)


PLAIN: dict[str, Callable[..., Tensor]] = {
    "multi-head-attention": multi_head,
    "grouped-query-attention": grouped,
    "qk-norm-attention": grouped,
    "sliding-window-attention": grouped,
    "sink-attention": grouped,
    "cached-attention": grouped,
    "attention-sink": attention_sink,
    "rotary-attention": rotary,
    "alibi-attention": alibi,
    "shaw-relative-attention": shaw,
    "talking-heads": talking,
    "t5-attention": t5,
    "vit-attention": vit,
    "differential-attention": differential,
    "multi-head-latent-attention": latent,
    "dot-score": dot_score,
    "bilinear-score": bilinear_score,
    "additive-score": additive_score,
    "soft-attention": soft,
    "hard-attention": hard,
    "bahdanau-decoder": bahdanau,
    "luong-global": luong,
    "luong-local-m": luong_m,
    "luong-local-p": luong_p,
    "sinusoidal-positions": sinusoidal,
    "learned-positions": learned,
    "rotary-positions": rotary_positions,
}
