"""What ``attention()`` shows is what ``forward`` does: the map times the values gives the output."""

import pytest
import torch

import attnzoo
from attnzoo_sequence.ops.attend import merge_heads, split_heads

LENGTH = 12
WIDE = {"embed_dim": 16, "num_heads": 4}


def grouped(block, x, maps):
    value = split_heads(block.value(x), block.num_kv_heads).repeat_interleave(
        block.num_heads // block.num_kv_heads, dim=1
    )
    return block.output(merge_heads(maps["attention"] @ value))


def joined(block, x, maps):
    return block.output(merge_heads(maps["attention"] @ block._project(x)[2]))


def t5(block, x, maps):
    return block.output(merge_heads(maps["attention"] @ split_heads(block.value(x), block.num_heads)))


def talking(block, x, maps):
    return block.output(merge_heads(maps["mixed"] @ split_heads(block.value(x), block.value_heads)))


def differential(block, x, maps):
    read = maps["attention"] @ split_heads(block.value(x), block.kv_heads)
    return block.out_proj(merge_heads(block.norm(read) * (1 - block.lambda_init)))


def latent(block, x, maps):
    small = block.kv_norm(block.kv_down(x)[..., : -block.rope_dim])
    value = split_heads(block.kv_up(small), block.num_heads)[..., block.nope_dim :]
    return block.out_proj(merge_heads(maps["attention"] @ value))


def reformer(block, x, maps):
    return block.out_proj(merge_heads(maps["attention"] @ split_heads(block.value(x), block.num_heads)))


def bigbird(block, x, maps):
    return merge_heads(maps["attention"] @ split_heads(block.value(x), block.num_heads))


def nystrom(block, x, maps):
    value = split_heads(block.value(x), block.num_heads)
    return merge_heads(maps["attention"] @ value + block.conv(value))


def linformer(block, x, maps):
    return block.out_proj(merge_heads(maps["attention"] @ block._mixtures(x, None, None)[2]))


def pooled(block, x, maps):
    return maps["attention"] @ x


def pooled_once(block, x, maps):
    return (maps["attention"][:, None] @ x)[:, 0]


SELF = {
    "grouped-query-attention": ({**WIDE, "num_kv_heads": 2}, grouped),
    "qk-norm-attention": (WIDE, grouped),
    "sliding-window-attention": ({**WIDE, "window_size": 3}, grouped),
    "sink-attention": ({**WIDE, "num_kv_heads": 2}, grouped),
    "sink-attention in a window": ({**WIDE, "window_size": 3}, grouped),
    "rotary-attention": (WIDE, joined),
    "alibi-attention": (WIDE, joined),
    "vit-attention": (WIDE, joined),
    "t5-attention": (WIDE, t5),
    "talking-heads": (WIDE, talking),
    "differential-attention": ({**WIDE, "depth": 1}, differential),
    "multi-head-latent-attention": ({**WIDE, "kv_rank": 8, "head_dims": [4, 2, 4]}, latent),
    "multi-head-latent-attention absorbed": ({**WIDE, "kv_rank": 8, "head_dims": [4, 2, 4], "absorbed": True}, latent),
    "reformer-attention": ({**WIDE, "num_buckets": 4, "chunk_size": 4, "num_hashes": 2}, reformer),
    "bigbird-attention": ({**WIDE, "block_size": 2}, bigbird),
    "gated-mil-attention": ({"embed_dim": 16, "branches": 2}, pooled),
    "han-attention": ({"embed_dim": 16}, pooled_once),
}
UNMASKED = {
    "linformer": ({**WIDE, "max_len": LENGTH, "compressed_len": 4}, linformer),
    "nystrom-attention": ({**WIDE, "num_landmarks": 4, "conv_kernel_size": 3}, nystrom),
}
BY_HEADS = {
    "attention-sink": {"num_heads": 4},
    "attention-sink causal": {"num_heads": 4, "causal": True},
    "linear-attention": {},
    "linear-attention causal": {"causal": True},
    "performer": {"head_dim": 8},
    "performer causal": {"head_dim": 8, "causal": True},
}


def made(name, arguments):
    torch.manual_seed(0)
    block = attnzoo.create(name.split(" ")[0], **arguments).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", SELF)
def test_the_map_times_the_values_is_the_output(name, masked):
    arguments, finish = SELF[name]
    block = made(name, arguments)
    x, mask = torch.randn(2, LENGTH, 16).double(), torch.ones(2, LENGTH, dtype=torch.bool)
    mask[1, -4:] = False
    given = {"mask_nm": mask} if name.startswith(("t5", "gated-mil", "han")) else {"mask_nl": mask}
    given = given if masked else {}
    found = finish(block, x, block.attention(x, **given))
    wanted = block(x, **given)
    if masked and name == "reformer-attention":  # it zeroes what masked queries give
        found = found * mask[..., None]
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", UNMASKED)
def test_the_map_of_an_approximation_times_the_values_is_the_output(name):
    arguments, finish = UNMASKED[name]
    block, x = made(name, arguments), torch.randn(2, LENGTH, 16).double()
    torch.testing.assert_close(finish(block, x, block.attention(x)), block(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", BY_HEADS)
def test_the_map_times_the_given_values_is_the_output(name):
    block = made(name, BY_HEADS[name])
    query, key, value = (torch.randn(2, 4, LENGTH, 8).double() for _ in range(3))
    found = block.attention(query, key, value)["attention"] @ value
    torch.testing.assert_close(found, block(query, key, value), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("score", ["dot", "scaled_dot", "bilinear", "additive"])
def test_soft_attention_reads_by_its_map(score):
    block = made("soft-attention", {"query_dim": 8, "score": score})
    query, key, value = torch.randn(2, 3, 8).double(), torch.randn(2, 5, 8).double(), torch.randn(2, 5, 6).double()
    found = block.attention(query, key, value)["attention"] @ value
    torch.testing.assert_close(found, block(query, key, value), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("score", ["dot", "general", "concat"])
def test_luong_attention_joins_the_context_of_its_map(score):
    block = made("luong-global", {"embed_dim": 8, "score": score})
    query, key = torch.randn(2, 3, 8).double(), torch.randn(2, 5, 8).double()
    context = block.attention(query, key)["attention"] @ key
    torch.testing.assert_close(block.join(query, context), block(query, key), rtol=1e-6, atol=1e-6)


def test_a_graph_averages_nodes_by_its_map():
    block = made("graph-attention", {"embed_dim": 16, "head_dim": 4, "num_heads": 2})
    x, edges = torch.randn(2, 6, 16).double(), torch.rand(2, 6, 6) < 0.5
    edges[0, 2] = False
    read = block.attention(x, edges)["attention"] @ split_heads(block.project(x), 2)
    torch.testing.assert_close(merge_heads(read) + block.bias, block(x, edges), rtol=1e-6, atol=1e-6)


def test_a_set_reads_by_its_map():
    block = made("mab", {"embed_dim": 16, "num_heads": 4})
    x, y = torch.randn(2, 3, 16).double(), torch.randn(2, 5, 16).double()
    out = block.query(x) + merge_heads(block.attention(x, y)["attention"] @ split_heads(block.value(y), 4))
    torch.testing.assert_close(out + torch.relu(block.feed_forward(out)), block(x, y), rtol=1e-6, atol=1e-6)


def masks(length, masked):
    """Return no mask, or one that hides the end of the second sample."""
    return torch.arange(length) < torch.tensor([[length], [length - 3]]) if masked else None


def read_of_set(mab, query, key, weights):
    """Return what a block of the Set Transformer gives, by its map."""
    values = weights @ split_heads(mab.value(key), mab.num_heads)
    out = mab.norm_attention(mab.query(query) + merge_heads(values))
    return mab.norm_out(out + torch.relu(mab.feed_forward(out)))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_an_induced_set_reads_by_both_its_maps(norm, masked):
    block = made("isab", {"embed_dim": 16, "in_dim": 6, "num_heads": 4, "num_points": 3, "norm": norm})
    x, mask = torch.randn(2, LENGTH, 6).double(), masks(LENGTH, masked)
    maps, points = block.attention(x, mask), block.points.expand(2, -1, -1)
    gathered = read_of_set(block.gather, points, x, maps["gather"])
    found = read_of_set(block.read, x, gathered, maps["read"])
    torch.testing.assert_close(found, block(x, mask), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_seeds_pool_a_set_by_their_map(norm, masked):
    block = made("pma", {"embed_dim": 16, "num_heads": 4, "num_seeds": 3, "norm": norm})
    x, mask = torch.randn(2, LENGTH, 16).double(), masks(LENGTH, masked)
    weights = block.attention(x, mask)["attention"]
    found = read_of_set(block.mab, block.seeds.expand(2, -1, -1), x, weights)
    torch.testing.assert_close(found, block(x, mask), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_latents_read_their_source_by_their_map(residual, masked):
    widths = {"key_channels": 8, "value_channels": 12, "query_residual": residual}
    block = made("perceiver-cross-attention", {"embed_dim": 6, "source_dim": 10, "num_heads": 2, **widths})
    latents, source, mask = torch.randn(2, 3, 6).double(), torch.randn(2, LENGTH, 10).double(), masks(LENGTH, masked)
    value = split_heads(block.value(block.source_norm(source)), 2)
    read = block.out_proj(merge_heads(block.attention(latents, source, mask)["attention"] @ value))
    read = read + latents if residual else read
    found = read + block.mlp_out(torch.nn.functional.gelu(block.mlp_in(block.mlp_norm(read))))
    torch.testing.assert_close(found, block(latents, source, mask), rtol=1e-6, atol=1e-6)


def gated_step(cell, x, state):
    """Return the next state of a gated recurrent unit, written out."""
    given = (x @ cell.weight_ih.t() + cell.bias_ih).chunk(3, dim=-1)
    kept = (state @ cell.weight_hh.t() + cell.bias_hh).chunk(3, dim=-1)
    reset, keep = torch.sigmoid(given[0] + kept[0]), torch.sigmoid(given[1] + kept[1])
    return (1 - keep) * torch.tanh(given[2] + reset * kept[2]) + keep * state


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("iterations", [1, 3])
def test_slots_are_updated_by_the_map_of_the_last_round(iterations, masked):
    block = made("slot-attention", {"embed_dim": 8, "num_slots": 3, "hidden_channels": 5, "eps": 1e-3})
    x, noise, mask = torch.randn(2, LENGTH, 8).double(), torch.randn(2, 3, 8).double(), masks(LENGTH, masked)
    block.iterations = iterations
    wanted, weights = block(x, noise, mask), block.attention(x, noise, mask)["attention"] + block.eps
    block.iterations = iterations - 1
    before = block(x, noise, mask) if block.iterations else block.mean + block.log_std.exp() * noise
    weights = weights if mask is None else weights * mask[:, None]  # eps joins before the mask
    update = weights / weights.sum(dim=2, keepdim=True) @ block.value(block.norm_input(x))
    slots = gated_step(block.update, update, before)
    found = slots + block.mlp_out(torch.relu(block.mlp_in(block.norm_mlp(slots))))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("score", ["dot", "scaled_dot", "bilinear", "additive"])
def test_hard_attention_reads_the_value_of_the_highest_weight(score, masked):
    block = made("hard-attention", {"query_dim": 8, "score": score, "temperature": 0.7}).eval()
    query, key, value = torch.randn(2, 3, 8).double(), torch.randn(2, 5, 8).double(), torch.randn(2, 5, 6).double()
    mask = masks(5, masked)
    maps, (read, log_prob) = block.attention(query, key, value, mask), block(query, key, value, mask)
    torch.testing.assert_close(maps["choice"] @ value, read, rtol=1e-6, atol=1e-6)
    highest = maps["attention"].max(dim=-1)
    torch.testing.assert_close(maps["choice"].argmax(dim=-1), highest.indices)
    torch.testing.assert_close(highest.values.log(), log_prob, rtol=1e-6, atol=1e-6)
