"""The three operators with a matrix state against their recurrences, step by step."""

import pytest
import torch
from torch import nn

from attnzoo_sequence.efficient.delta_rule import DeltaRule
from attnzoo_sequence.efficient.gated_delta_rule import GatedDeltaRule
from attnzoo_sequence.efficient.gated_linear_attention import GatedLinearAttention

LENGTH = 150
Tensors = dict[str, torch.Tensor]


def tensors(block: nn.Module) -> Tensors:
    torch.manual_seed(0)
    n, h, d, e = 2, 2, 4, 3
    options = {"dtype": torch.float64, "requires_grad": True}
    key = nn.functional.normalize(torch.randn(n, h, LENGTH, d, dtype=torch.float64), dim=-1).requires_grad_()
    result = {
        "query_nhld": torch.randn(n, h, LENGTH, d, **options),
        "key_nhld": key,
        "value_nhle": torch.randn(n, h, LENGTH, e, **options),
        "initial_state_nhde": torch.randn(n, h, d, e, **options),
    }
    if isinstance(block, GatedLinearAttention):
        decay = -3 * torch.rand(n, h, LENGTH, d, dtype=torch.float64)
        return {**result, "log_decay_nhld": decay.requires_grad_()}
    result["beta_nhl"] = torch.rand(n, h, LENGTH, **options)
    if isinstance(block, GatedDeltaRule):
        result["log_decay_nhl"] = (-torch.rand(n, h, LENGTH, dtype=torch.float64)).requires_grad_()
    return result


def recurrence(t: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    state, out = t["initial_state_nhde"], []
    for i in range(t["query_nhld"].shape[2]):
        query, key, value = t["query_nhld"][:, :, i], t["key_nhld"][:, :, i], t["value_nhle"][:, :, i]
        if "log_decay_nhld" in t:
            state = t["log_decay_nhld"][:, :, i, :, None].exp() * state
        if "log_decay_nhl" in t:
            state = t["log_decay_nhl"][:, :, i, None, None].exp() * state
        if "beta_nhl" in t:
            answer = torch.einsum("nhde,nhd->nhe", state, key)
            value = t["beta_nhl"][:, :, i, None] * (value - answer)
        state = state + key[..., None] * value[..., None, :]
        out.append(torch.einsum("nhde,nhd->nhe", state, query) * query.shape[-1] ** -0.5)
    return torch.stack(out, dim=2), state


@pytest.mark.parametrize("block", [GatedLinearAttention(), DeltaRule(), GatedDeltaRule()])
def test_chunks_equal_the_recurrence_with_gradients(block: nn.Module) -> None:
    given = tensors(block)
    found, wanted = block(**given), recurrence(given)
    torch.testing.assert_close(found, wanted)
    upstream = [torch.randn_like(w) for w in wanted]
    found_grad = torch.autograd.grad(found, list(given.values()), upstream)
    torch.testing.assert_close(found_grad, torch.autograd.grad(wanted, list(given.values()), upstream))


@pytest.mark.parametrize("block", [GatedLinearAttention(), DeltaRule(), GatedDeltaRule()])
def test_a_sequence_in_two_parts_equals_the_whole(block: nn.Module) -> None:
    given = {k: v.detach() for k, v in tensors(block).items()}
    state = given.pop("initial_state_nhde")
    whole, last = block(**given, initial_state_nhde=state)
    first, middle = block(**{k: v[:, :, :77] for k, v in given.items()}, initial_state_nhde=state)
    second, end = block(**{k: v[:, :, 77:] for k, v in given.items()}, initial_state_nhde=middle)
    torch.testing.assert_close(torch.cat([first, second], dim=2), whole)
    torch.testing.assert_close(end, last)


def test_a_strong_decay_neither_overflows_nor_loses_the_last_token() -> None:
    query = key = torch.ones(1, 1, 40, 2)
    value = torch.arange(40.0).reshape(1, 1, 40, 1)
    out, _ = GatedLinearAttention()(query, key, value, torch.full((1, 1, 40, 2), -200.0))
    torch.testing.assert_close(out, value * 2**0.5)


@pytest.mark.parametrize("block", [GatedLinearAttention(), GatedDeltaRule()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gate_that_forgets_everything_starts_anew(block: nn.Module, dtype: torch.dtype) -> None:
    given = {k: v.detach().to(dtype) for k, v in tensors(block).items()}
    decay = "log_decay_nhld" if isinstance(block, GatedLinearAttention) else "log_decay_nhl"
    given[decay][:, :, 70] = -torch.inf
    given = {k: v.requires_grad_() for k, v in given.items()}
    whole, last = block(**given)
    rest, end = block(**{k: v[:, :, 70:] for k, v in given.items() if k != "initial_state_nhde"})
    torch.testing.assert_close(whole[:, :, 70:], rest)
    torch.testing.assert_close(last, end)
    assert all(torch.isfinite(x).all() for x in torch.autograd.grad(whole.sum() + last.sum(), list(given.values())))
