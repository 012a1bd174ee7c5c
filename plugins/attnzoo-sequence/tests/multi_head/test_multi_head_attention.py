import pytest
import torch
from torch import nn

from attnzoo_sequence.multi_head.multi_head_attention import MultiHeadAttention


def plain(block, query, key, value, mask=None):
    """The formula, one head at a time."""
    width = query.shape[-1] // block.num_heads
    q, k, v = block._project_apart(query, key, value)
    heads = []
    for h in range(block.num_heads):
        part = slice(h * width, (h + 1) * width)
        score = q[..., part] @ k[..., part].transpose(1, 2) / width**0.5
        if mask is not None:
            score = score.masked_fill(~mask, -torch.inf)
        heads.append(score.softmax(-1) @ v[..., part])
    return block.output(torch.cat(heads, -1))


@pytest.mark.parametrize("options", [{}, {"key_dim": 6, "value_dim": 10}])
def test_it_is_the_formula(options):
    torch.manual_seed(0)
    block = MultiHeadAttention(8, 2, **options).double()
    query = torch.randn(2, 5, 8).double()
    key = torch.randn(2, 7, options.get("key_dim", 8)).double()
    value = torch.randn(2, 7, options.get("value_dim", 8)).double()
    mask = torch.rand(2, 7) > 0.4
    mask[:, 0] = True
    wanted = plain(block, query, key, value, mask[:, None])
    torch.testing.assert_close(block(query, key, value, mask_nm=mask), wanted)


@pytest.mark.parametrize(
    "options", [{}, {"bias": False}, {"kdim": 6, "vdim": 10}, {"add_bias_kv": True, "add_zero_attn": True}]
)
def test_it_equals_torch_in_outputs_gradients_and_maps(options):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64, **options)
    key_dim, value_dim = options.get("kdim"), options.get("vdim")
    bias = options.get("bias", True)
    extra = options.get("add_bias_kv", False)
    block = MultiHeadAttention(
        12, 3, key_dim=key_dim, value_dim=value_dim, bias=bias, output_bias=bias, extra_key=extra, zero_key=extra
    ).double()
    copy_from_torch(theirs, block)
    query = torch.randn(2, 4, 12).double().requires_grad_()
    key, value = torch.randn(2, 5, key_dim or 12).double(), torch.randn(2, 5, value_dim or 12).double()
    mask = torch.tensor([[True, True, False, True, True], [True, False, False, False, True]])
    wanted, weights = theirs(query, key, value, key_padding_mask=~mask, average_attn_weights=False)
    found = block(query, key, value, mask_nm=mask)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(block.attention(query, key, value, mask_nm=mask)["attention"], weights)
    (gradient,) = torch.autograd.grad(found.square().sum(), query)
    (wanted_gradient,) = torch.autograd.grad(wanted.square().sum(), query)
    torch.testing.assert_close(gradient, wanted_gradient)


def copy_from_torch(theirs, block):
    with torch.no_grad():
        if block.fused:
            block.in_proj.weight.copy_(theirs.in_proj_weight)
            if theirs.in_proj_bias is not None:
                block.in_proj.bias.copy_(theirs.in_proj_bias)
        else:
            biases = theirs.in_proj_bias.chunk(3)
            for name, bias in zip(("query", "key", "value"), biases, strict=True):
                getattr(block, name).weight.copy_(getattr(theirs, f"{name[0]}_proj_weight"))
                getattr(block, name).bias.copy_(bias)
        if theirs.bias_k is not None:
            block.extra_key.copy_(theirs.bias_k[0, 0])
            block.extra_value.copy_(theirs.bias_v[0, 0])
        block.output.load_state_dict(theirs.out_proj.state_dict())


def test_the_maps_agree_with_forward():
    torch.manual_seed(0)
    block = MultiHeadAttention(8, 2, causal=True, extra_key=True).double()
    query = torch.randn(2, 5, 8).double()
    mask = torch.rand(2, 5) > 0.5
    weights = block.attention(query, mask_nm=mask)["attention"]
    _, _, value = block._project(query, None, None)
    read = (weights @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(block.output(read), block(query, mask_nm=mask))


def test_a_query_that_sees_no_key_reads_zeros():
    torch.manual_seed(0)
    block = MultiHeadAttention(8, 2, output_bias=False)
    query = torch.randn(2, 5, 8, requires_grad=True)
    mask = torch.tensor([[True] * 5, [False] * 5])
    output = block(query, mask_nm=mask)
    assert not output[1].any()
    output.sum().backward()
    assert query.grad.isfinite().all()
    assert not block.attention(query, mask_nm=mask)["attention"][1].any()


def test_later_tokens_do_not_leak_into_earlier_ones():
    torch.manual_seed(0)
    block = MultiHeadAttention(8, 2, causal=True)
    query = torch.randn(1, 6, 8)
    changed = query.clone()
    changed[:, 4:] += 3.0
    torch.testing.assert_close(block(query)[:, :4], block(changed)[:, :4])


def test_causal_queries_are_aligned_with_the_last_key():
    torch.manual_seed(0)
    block = MultiHeadAttention(8, 2, causal=True)
    x = torch.randn(1, 6, 8)
    torch.testing.assert_close(block(x[:, 4:], x), block(x)[:, 4:])


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(
        ValueError, match=r"^MultiHeadAttention: num_heads=3 does not divide embed_dim=8; use num_heads=2 or 4$"
    ):
        MultiHeadAttention(8, 3)
