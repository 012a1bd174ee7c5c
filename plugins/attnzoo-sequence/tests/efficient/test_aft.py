import pytest
import torch
from torch import nn

from attnzoo_sequence.efficient.aft_conv import AFTConv
from attnzoo_sequence.efficient.aft_full import AFTFull
from attnzoo_sequence.efficient.aft_local import AFTLocal
from attnzoo_sequence.efficient.aft_simple import AFTSimple


def formula(block: nn.Module, x: torch.Tensor, bias: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Return the average with a bias ``(l, s)`` or ``(l, s, r)``, written with the tensor of all pairs and channels."""
    key = block.key(x)
    key = key.repeat_interleave(block.value(x).shape[2] // key.shape[2], dim=2)
    bias = bias if bias.ndim == 3 else bias[..., None]
    weight = (key[:, None] + bias).exp() * visible[..., None]
    average = (weight * block.value(x)[:, None]).sum(dim=2) / weight.sum(dim=2)
    out: torch.Tensor = block.out_proj(block.query(x).sigmoid() * average)
    return out


@pytest.fixture
def x() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 7, 6, dtype=torch.float64)


@pytest.mark.parametrize("causal", [False, True])
def test_full_equals_the_formula(x: torch.Tensor, causal: bool) -> None:
    block = AFTFull(6, 9, hidden_channels=5, causal=causal).double()
    visible = torch.ones(7, 7).tril() if causal else torch.ones(7, 7)
    torch.testing.assert_close(block(x), formula(block, x, block.position_bias[:7, :7], visible))


@pytest.mark.parametrize("causal", [False, True])
def test_simple_equals_the_formula(x: torch.Tensor, causal: bool) -> None:
    block = AFTSimple(6, hidden_channels=5, causal=causal).double()
    visible = torch.ones(7, 7).tril() if causal else torch.ones(7, 7)
    torch.testing.assert_close(block(x), formula(block, x, torch.zeros(7, 7), visible))


@pytest.mark.parametrize("causal", [False, True])
def test_local_equals_the_formula(x: torch.Tensor, causal: bool) -> None:
    block = AFTLocal(6, 9, window_size=3, hidden_channels=5, causal=causal).double()
    bias = torch.zeros(7, 7, dtype=torch.float64)
    for t in range(7):
        for s in range(max(0, t - 2), min(7, t + 1 if causal else t + 3)):
            bias[t, s] = block.position_bias[t, s - t + 2]
    visible = torch.ones(7, 7).tril() if causal else torch.ones(7, 7)
    torch.testing.assert_close(block(x), formula(block, x, bias, visible))


def test_conv_equals_the_formula(x: torch.Tensor) -> None:
    block = AFTConv(6, num_heads=2, kernel_size=3).double()
    nn.init.normal_(block.position_bias)
    bias = torch.zeros(7, 7, 2, dtype=torch.float64)
    for t in range(7):
        for s in range(max(0, t - 1), min(7, t + 2)):
            bias[t, s] = block.position_bias[:, s - t + 1]
    torch.testing.assert_close(block(x), formula(block, x, bias.repeat_interleave(3, dim=2), torch.ones(7, 7)))


def test_large_keys_do_not_overflow(x: torch.Tensor) -> None:
    block = AFTFull(6, 9).double()
    with torch.no_grad():
        block.key.bias.fill_(1000.0)
    assert block(x).isfinite().all()


@pytest.mark.parametrize("bias", [-1000.0, 90.0, 1000.0])
@pytest.mark.parametrize("causal", [False, True])
def test_large_biases_of_full_do_not_overflow(x: torch.Tensor, causal: bool, bias: float) -> None:
    block = AFTFull(6, 7, causal=causal).float()
    nn.init.constant_(block.position_bias, bias)
    found = block(x.float())
    nn.init.zeros_(block.position_bias)
    torch.testing.assert_close(found, block(x.float()))  # one bias for all pairs cancels


def of_own_token(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the output where each token reads itself alone."""
    out: torch.Tensor = block.out_proj(block.query(x).sigmoid() * block.value(x))
    return out


@pytest.mark.parametrize("bias", [90.0, 1000.0])
@pytest.mark.parametrize("name", ["full", "local", "local causal", "conv"])
def test_a_large_bias_of_the_own_token_leaves_that_token_alone(x: torch.Tensor, name: str, bias: float) -> None:
    blocks = {
        "full": AFTFull(6, 7),
        "local": AFTLocal(6, 7, window_size=3),
        "local causal": AFTLocal(6, 7, window_size=3, causal=True),
        "conv": AFTConv(6, num_heads=2, kernel_size=3),
    }
    block = blocks[name]
    with torch.no_grad():
        own = block.position_bias.diagonal() if name == "full" else block.position_bias[:, 1 if name == "conv" else 2]
        own.fill_(bias)
    given = x.float().requires_grad_()
    found = block(given)
    torch.testing.assert_close(found, of_own_token(block, given))
    found.sum().backward()
    assert all(tensor.grad.isfinite().all() for tensor in (given, block.position_bias))


@pytest.mark.parametrize("block", [AFTFull, AFTLocal])
@pytest.mark.parametrize("max_len", [0, -3])
def test_a_length_of_none_is_refused(block: type[nn.Module], max_len: int) -> None:
    message = rf"^{block.__name__}: max_len={max_len} is not positive; use a number above 0$"
    with pytest.raises(ValueError, match=message):
        block(6, max_len)


def test_hidden_tokens_are_left_out(x: torch.Tensor) -> None:
    block = AFTFull(6, 9, hidden_channels=5).double()
    mask = torch.tensor([True] * 5 + [False] * 2).expand(2, 7)
    torch.testing.assert_close(block(x, mask)[:, :5], block(x[:, :5]))


def test_a_sequence_that_is_too_long_is_refused() -> None:
    message = r"^AFTFull: 10 tokens are more than max_len=9; build it with a larger max_len$"
    with pytest.raises(ValueError, match=message):
        AFTFull(6, 9)(torch.zeros(1, 10, 6))
