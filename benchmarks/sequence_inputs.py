"""What ``sequence.py`` gives the blocks: random inputs for a number of tokens, one function for each kind of input."""

import torch
from torch import Tensor, nn

BATCH, WIDTH, HEADS, DIM = 2, 256, 8, 32


def tokens(length: int) -> list[Tensor]:
    return [torch.randn(BATCH, length, WIDTH)]


def pair(length: int) -> list[Tensor]:
    return [*tokens(length), *tokens(length)]


def short_pair(length: int) -> list[Tensor]:
    return [torch.randn(BATCH, 16, 64), torch.randn(BATCH, length, 64)]


def queries(length: int) -> list[Tensor]:
    return [torch.randn(BATCH, 16, WIDTH), *tokens(length)]


def sentences(length: int) -> list[Tensor]:
    return [*queries(length), torch.full((BATCH,), length)]


def by_heads(length: int) -> list[Tensor]:
    return [torch.randn(BATCH, HEADS, length, DIM) for _ in range(3)]


def gated(length: int) -> list[Tensor]:
    return [*by_heads(length), -torch.rand(BATCH, HEADS, length, DIM)]


def delta(length: int) -> list[Tensor]:
    query, key, value = by_heads(length)
    return [query, nn.functional.normalize(key, dim=-1), value, torch.rand(BATCH, HEADS, length)]


def gated_delta(length: int) -> list[Tensor]:
    return [*delta(length), -torch.rand(BATCH, HEADS, length)]


def with_global(length: int) -> list[Tensor]:
    return [*tokens(length), (torch.arange(length) < 4).expand(BATCH, -1)]


def with_noise(length: int) -> list[Tensor]:
    return [*tokens(length), torch.randn(BATCH, 7, WIDTH)]


def graph(length: int) -> list[Tensor]:
    edges = torch.rand(BATCH, length // 2, length // 2) < 0.1
    return [torch.randn(BATCH, length // 2, WIDTH), edges | torch.eye(length // 2, dtype=torch.bool)]


def recurrent(length: int) -> list[Tensor]:
    return [torch.randn(BATCH, 16, 64), torch.randn(BATCH, 128), torch.randn(BATCH, length, 256)]
