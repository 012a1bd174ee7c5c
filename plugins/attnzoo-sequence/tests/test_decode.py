"""Decoding with a cache gives the numbers of one full pass, in any pieces."""

import re

import pytest
import torch

import attnzoo

LENGTH = 11
PIECES = [[11], [6, 1, 1, 1, 1, 1], [1] * 11, [4, 7], [2, 5, 4]]
LATENT = {"embed_dim": 16, "num_heads": 4, "query_rank": 6, "kv_rank": 5, "head_dims": [4, 2, 3]}
LATENTS = {
    "plain": LATENT,
    "absorbed": {**LATENT, "absorbed": True},
    "yarn": {**LATENT, "yarn": [40, 4096, 32, 1, 1.0, 1.0]},
    "halves": {**LATENT, "rope_layout": "half"},
}
WINDOW = {"embed_dim": 16, "num_heads": 4, "num_kv_heads": 2}


def made(name, arguments):
    torch.manual_seed(0)
    block = attnzoo.create(name, **arguments).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return block, torch.randn(2, LENGTH, 16).double().requires_grad_()


def check_outputs_and_gradients(found, block, x):
    wanted = block(x)
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (found, wanted)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("case", LATENTS)
def test_latents_through_the_cache_give_the_full_pass(case, pieces):
    block, x = made("multi-head-latent-attention", LATENTS[case])
    cache, outputs = None, []
    for piece in x.split(pieces, dim=1):
        output, cache = block.decode(piece, cache)
        outputs.append(output)
    check_outputs_and_gradients(torch.cat(outputs, dim=1), block, x)


def test_the_cache_of_latents_holds_rank_and_rotated_channels_alone():
    block, x = made("multi-head-latent-attention", LATENT)
    assert block.decode(x)[1].shape == (2, LENGTH, 5 + 2)


def test_a_block_that_is_not_causal_has_nothing_to_cache():
    block, x = made("multi-head-latent-attention", {**LATENT, "causal": False})
    message = "MultiHeadLatentAttention: decode with causal=False, expected True; build it causal or use forward"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        block.decode(x)


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("window", [1, 2, 3, 4, 11, 20])
@pytest.mark.parametrize("base", [None, 100.0])
def test_windows_through_the_cache_give_the_full_pass(base, window, pieces):
    block, x = made("sliding-window-attention", {**WINDOW, "window_size": window, "rotary_base": base})
    cache, first, outputs = None, 0, []
    for piece in x.split(pieces, dim=1):
        output, cache = block.decode(piece, cache, first)
        first += piece.shape[1]
        assert cache.shape[3] == min(first, window)
        outputs.append(output)
    check_outputs_and_gradients(torch.cat(outputs, dim=1), block, x)


def test_a_position_that_does_not_fit_the_cache_is_refused():
    block, x = made("sliding-window-attention", {**WINDOW, "window_size": 4})
    _, cache = block.decode(x[:, :6])
    message = "SlidingWindowAttention: a cache of 4 tokens at first=0, expected 0; pass on the cache of the last call"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        block.decode(x[:, 6:], cache)
