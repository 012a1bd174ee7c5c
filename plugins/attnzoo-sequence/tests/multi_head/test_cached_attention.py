from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attnzoo_sequence.multi_head.cached_attention import CachedAttention

GOLDEN = Path(__file__).parents[4] / "tests" / "golden"


@pytest.mark.parametrize("pieces", [[6, 1, 1, 1], [1] * 9, [4, 5], [3, 3, 3]])
@pytest.mark.parametrize("base", [None, 10000.0])
def test_pieces_through_the_cache_give_the_full_pass(pieces, base):
    torch.manual_seed(0)
    block = CachedAttention(16, 4, num_kv_heads=2, rotary_base=base).double()
    x = torch.randn(2, 9, 16).double().requires_grad_()
    wanted, wanted_cache = block(x)
    cache, outputs = None, []
    for piece in x.split(pieces, dim=1):
        output, cache = block(piece, cache)
        outputs.append(output)
    found = torch.cat(outputs, dim=1)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(cache, wanted_cache)
    (gradient,) = torch.autograd.grad(found.square().sum(), x)
    (wanted_gradient,) = torch.autograd.grad(wanted.square().sum(), x)
    torch.testing.assert_close(gradient, wanted_gradient)


@pytest.mark.parametrize("case", ["a", "b"])
def test_steps_equal_the_steps_of_transformers(case):
    golden = load_file(GOLDEN / f"kv_cache--hf_llama--{case}.safetensors")
    heads, groups, base = {"a": (4, 2, 1e4), "b": (6, 1, 5e5)}[case]
    x = golden["input"]
    block = CachedAttention(x.shape[-1], heads, num_kv_heads=groups, rotary_base=base)
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
    block.load_state_dict({f"{o}.weight": golden[f"state.{t}.weight"] for o, t in names.items()})
    output, cache = block(x[:, :-3])
    torch.testing.assert_close(output, golden["output.prefill"], rtol=1e-5, atol=2e-5)
    for step in range(3):
        first = x.shape[1] - 3 + step
        output, cache = block(x[:, first : first + 1], cache)
        torch.testing.assert_close(output, golden[f"output.step{step}"], rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(cache[:, 0], golden["map.cache_key"], rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(cache[:, 1], golden["map.cache_value"], rtol=1e-5, atol=2e-5)


def test_the_maps_reach_over_the_cache():
    torch.manual_seed(0)
    block = CachedAttention(16, 4).double()
    x = torch.randn(2, 7, 16).double()
    _, cache = block(x[:, :5])
    whole, part = block.attention(x)["attention"], block.attention(x[:, 5:], cache)["attention"]
    torch.testing.assert_close(part, whole[:, :, 5:])
