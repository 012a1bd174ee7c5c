"""The same four matrices, laid out as each library lays them out: one block, one output."""

import pytest
import torch
from safetensors.torch import save_file

import attnzoo

WIDTH, HEADS = 12, 3


def apart(names, suffix=""):
    """Return a layout of four linear layers with these names."""
    return lambda w, b: {
        f"{name}.{kind}{suffix}": tensor
        for kind, tensors in (("weight", w), ("bias", b))
        for name, tensor in zip(names, tensors, strict=True)
    }


def stacked(weight, bias, out, *, of_heads=False):
    """Return the layout with one matrix of rows: all of q, then k, then v; or so within each head; and the output."""

    def layout(w, b):
        def rows(three):
            return torch.stack([x.unflatten(0, (HEADS, -1)) for x in three], dim=1 if of_heads else 0).flatten(0, 2)

        return {weight: rows(w[:3]), bias: rows(b[:3]), f"{out}.weight": w[3], f"{out}.bias": b[3]}

    return layout


def every_third(w, b):
    """Rows 0::3 are those of q, 1::3 of k, 2::3 of v."""
    weight, bias = torch.empty(3 * WIDTH, WIDTH), torch.empty(3 * WIDTH)
    for i in range(3):
        weight[i::3], bias[i::3] = w[i], b[i]
    return {"qkv.weight": weight, "qkv.bias": bias, "projection.weight": w[3], "projection.bias": b[3]}


def transposed(w, b):
    """GPT-2: inputs by outputs, columns of q, k, v side by side."""
    joined = {"c_attn.weight": torch.cat([x.t() for x in w[:3]], dim=1), "c_attn.bias": torch.cat(b[:3])}
    return {**joined, "c_proj.weight": w[3].t().contiguous(), "c_proj.bias": b[3]}


def transposed_apart(w, b):
    """GPT-2's cross-attention: the queries have a matrix of their own."""
    joined = {"c_attn.weight": torch.cat([x.t() for x in w[1:3]], dim=1), "c_attn.bias": torch.cat(b[1:3])}
    own = {"q_attn.weight": w[0].t().contiguous(), "q_attn.bias": b[0]}
    return {**joined, **own, "c_proj.weight": w[3].t().contiguous(), "c_proj.bias": b[3]}


def without_biases(w, b):
    return {f"to_{name}.weight": x for name, x in zip(("q", "k", "v", "out"), w, strict=True)}


GPT2 = {"n_embd": WIDTH, "n_head": HEADS}
BERT = {"hidden_size": WIDTH, "num_attention_heads": HEADS}
LAYOUTS = {
    "torch": ({"embed_dim": WIDTH, "num_heads": HEADS}, stacked("in_proj_weight", "in_proj_bias", "out_proj")),
    "bert": (BERT, apart(("self.query", "self.key", "self.value", "output.dense"))),
    "gpt2": (GPT2, transposed),
    "gpt2-cross": ({**GPT2, "is_cross_attention": True}, transposed_apart),
    "hf-vit": (BERT, apart(("q_proj", "k_proj", "v_proj", "o_proj"))),
    "hf-vit-file": (BERT, apart(("attention.query", "attention.key", "attention.value", "output.dense"))),
    "hf-clip": (BERT, apart(("q_proj", "k_proj", "v_proj", "out_proj"))),
    "bloom": (
        {"hidden_size": WIDTH, "n_head": HEADS},
        stacked("query_key_value.weight", "query_key_value.bias", "dense", of_heads=True),
    ),
    "interleaved-qkv": ({"embed_dim": WIDTH, "num_heads": HEADS}, every_third),
    "four-linears": ({"d_model": WIDTH, "h": HEADS}, apart(("linears.0", "linears.1", "linears.2", "linears.3"))),
    "x-transformers": ({"dim": WIDTH, "dim_head": WIDTH // HEADS, "heads": HEADS}, without_biases),
}
CAUSAL = {"gpt2", "bloom"}


def plain(x, weights, biases, causal):
    """The formula, one head at a time."""
    query, key, value = (x @ w.t() + b for w, b in zip(weights[:3], biases[:3], strict=True))
    heads = []
    for q, k, v in zip(*(y.chunk(HEADS, dim=-1) for y in (query, key, value)), strict=True):
        score = q @ k.mT / q.shape[-1] ** 0.5
        if causal:
            score = score.masked_fill(torch.ones_like(score[0]).triu(1).bool(), -torch.inf)
        heads.append(score.softmax(dim=-1) @ v)
    return torch.cat(heads, dim=-1) @ weights[3].t() + biases[3]


def loaded(path, block, dialect, theirs, layout):
    """Write four random layers in a layout, load them, and return the block with the layers."""
    torch.manual_seed(0)
    weights, biases = torch.randn(4, WIDTH, WIDTH).unbind(), torch.randn(4, WIDTH).unbind()
    state = layout(weights, biases)
    if not any("bias" in name for name in state):
        biases = torch.zeros(4, WIDTH).unbind()
    save_file({f"layer.{name}": tensor.contiguous() for name, tensor in state.items()}, path)
    return attnzoo.load_foreign(path, block, dialect, site="layer", **theirs).eval(), weights, biases


@pytest.mark.parametrize("dialect", LAYOUTS)
def test_every_layout_loads_into_the_same_block(dialect, tmp_path):
    block, weights, biases = loaded(tmp_path / "a.safetensors", "multi-head-attention", dialect, *LAYOUTS[dialect])
    x = torch.randn(2, 5, WIDTH)
    torch.testing.assert_close(block(x), plain(x, weights, biases, dialect in CAUSAL), rtol=1e-5, atol=1e-5)


def test_the_fused_matrix_of_timm_gives_the_same_output(tmp_path):
    theirs = {"dim": WIDTH, "num_heads": HEADS, "qkv_bias": True}
    layout = stacked("qkv.weight", "qkv.bias", "proj")
    block, weights, biases = loaded(tmp_path / "a.safetensors", "vit-attention", "timm", theirs, layout)
    x = torch.randn(2, 5, WIDTH)
    torch.testing.assert_close(block(x), plain(x, weights, biases, False), rtol=1e-5, atol=1e-5)


def test_no_layout_of_the_card_is_left_out():
    assert set(attnzoo.default_registry().find("multi-head-attention").card.dialects) == set(LAYOUTS)
