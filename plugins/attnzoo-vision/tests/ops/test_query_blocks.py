"""Attention by blocks of queries against the product that it takes the place of."""

import pytest
import torch
from torch import Tensor

from attnzoo_vision.ops import query_blocks
from attnzoo_vision.ops.query_blocks import attend_by_blocks, many_weights, narrow_keys
from attnzoo_vision.ops.relative import relative_map

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
    assert narrow_keys(query, value)
    assert not narrow_keys(value, value)


def placed(height: int, width: int, queries: int) -> list[Tensor]:
    """Return queries, keys and values of two heads as views of one tensor, and the logits of rows and columns."""
    mixed = torch.randn(2, max(queries, height * width), 2, 12, dtype=torch.float64)
    query, key, value = mixed.transpose(1, 2).chunk(3, dim=3)
    logits = (torch.randn(2, 2, queries, size, dtype=torch.float64) for size in (height, width))
    views = (query[:, :, :queries], key[:, :, : height * width], value[:, :, : height * width], *logits)
    return [t.requires_grad_() for t in views]


@pytest.mark.parametrize(("height", "width", "queries"), [(5, 6, 30), (3, 4, 40), (1, 1, 1)])
def test_heads_with_logits_of_rows_and_columns_are_attention_with_the_relative_map(height, width, queries):
    inputs = placed(height, width, queries)
    query, key, value, row, column = inputs
    expected = relative_map(query, key, row, column, SCALE) @ value
    output = attend_by_blocks(query, key, value, SCALE, row, column)
    torch.testing.assert_close(output, expected)
    grad = torch.randn_like(output)
    torch.testing.assert_close(torch.autograd.grad(output, inputs, grad), torch.autograd.grad(expected, inputs, grad))


def test_the_gradient_with_logits_of_rows_and_columns_can_be_differentiated():
    query, key, value, row, column = placed(2, 2, 3)
    options = (query[:1, :1], key[:1, :1], value[:1, :1], row[:1, :1], column[:1, :1])
    inputs = [t.detach().requires_grad_() for t in options]
    assert torch.autograd.gradgradcheck(lambda q, k, v, r, c: attend_by_blocks(q, k, v, SCALE, r, c), inputs)


def test_outputs_lie_in_memory_as_the_values_do():
    query, key, value = tensors(40, 40)
    turned = value.transpose(1, 2).contiguous().transpose(1, 2)
    assert attend_by_blocks(query, key, turned, SCALE).stride() == turned.stride()
    assert attend_by_blocks(query, key, value, SCALE).is_contiguous()


def test_only_large_maps_of_relative_positions_go_by_blocks():
    assert many_weights(torch.empty(1, 1, 256, 4), torch.empty(1, 1, 128, 4))
    assert not many_weights(torch.empty(1, 1, 49, 4), torch.empty(1, 1, 49, 4))
