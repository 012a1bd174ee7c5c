import pytest
import torch

from attnzoo_sequence.multi_head.sliding_window_attention import SlidingWindowAttention


@pytest.mark.parametrize("window", [1, 2, 3, 6, 13, 20])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("unseeing", ["zero", "mean"])
def test_blocks_of_one_window_give_the_full_formula(window, masked, unseeing):
    torch.manual_seed(0)
    block = SlidingWindowAttention(8, 4, num_kv_heads=2, window_size=window, unseeing=unseeing).double()
    x = torch.randn(3, 13, 8).double().requires_grad_()
    mask = torch.rand(3, 13) > 0.5 if masked else None
    q, k, v = block.project(x)
    seen = torch.ones(13, 13).tril().bool() & ~torch.ones(13, 13).tril(-window).bool()
    seen = seen & mask[:, None, None] if masked else seen.expand(3, 1, 13, 13)
    score = q @ k.repeat_interleave(2, 1).mT / 2**0.5
    # The lowest number is added, as transformers' eager form does: rows without a visible key become uniform.
    weights = (score + (~seen).double() * torch.finfo(x.dtype).min).softmax(-1)
    if unseeing == "zero":
        weights = weights * seen.any(-1, keepdim=True)
    wanted = block.output((weights @ v.repeat_interleave(2, 1)).transpose(1, 2).flatten(2))
    found = block(x, mask)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(block.attention(x, mask)["attention"], weights)
    (gradient,) = torch.autograd.grad(found.square().sum(), x, retain_graph=True)
    (wanted_gradient,) = torch.autograd.grad(wanted.square().sum(), x)
    torch.testing.assert_close(gradient, wanted_gradient)


def test_a_window_must_be_positive():
    with pytest.raises(
        ValueError, match=r"^SlidingWindowAttention: window_size=0 is not positive; use a number above 0$"
    ):
        SlidingWindowAttention(8, 2, window_size=0)
