"""Attention by blocks of queries against the product that it takes the place of."""

import pytest
import torch
from torch import Tensor

from attnzoo_vision.ops import query_blocks
from attnzoo_vision.ops.query_blocks import attend_by_blocks, attends_by_blocks

SCALE = 0.7


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(query_blocks, "_BLOCK", 64)


def whole(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(query @ key.transpose(1, 2) * SCALE, dim=2) @ value


def tensors(queries: int = 40, keys: int = 37) -> list[Tensor]:
    shapes = [(2, queries, 3), (2, keys, 3), (2, keys, 7)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def test_blocks_give_the_numbers_of_the_whole_map():
    inputs = tensors()
    with torch.no_grad():
        torch.testing.assert_close(attend_by_blocks(*inputs, SCALE), whole(*inputs))


def test_gradients_are_those_of_the_whole_map():
    inputs = tensors()
    output, expected = attend_by_blocks(*inputs, SCALE), whole(*inputs)
    grad = torch.randn_like(output)
    torch.testing.assert_close(torch.autograd.grad(output, inputs, grad), torch.autograd.grad(expected, inputs, grad))


def test_the_gradient_can_be_differentiated():
    assert torch.autograd.gradgradcheck(lambda *inputs: attend_by_blocks(*inputs, SCALE), tensors(4, 5))


def test_only_wide_values_go_by_blocks():
    query, _, value = tensors()
    assert attends_by_blocks(query, value)
    assert not attends_by_blocks(value, value)
