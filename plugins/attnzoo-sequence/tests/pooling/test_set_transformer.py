import pytest
import torch

from attnzoo_sequence.pooling.isab import ISAB
from attnzoo_sequence.pooling.mab import MAB
from attnzoo_sequence.pooling.pma import PMA
from attnzoo_sequence.pooling.sab import SAB


def formula(block: MAB, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    query, key, value = block.query(x), block.key(y), block.value(y)
    width = query.shape[-1]
    heads = []
    for q, k, v in zip(*(t.chunk(block.num_heads, dim=-1) for t in (query, key, value)), strict=True):
        heads.append((q @ k.transpose(1, 2) / width**0.5).softmax(dim=-1) @ v)
    out = block.norm_attention(query + torch.cat(heads, dim=-1))
    result: torch.Tensor = block.norm_out(out + block.feed_forward(out).relu())
    return result


@pytest.fixture
def x() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 7, 6, dtype=torch.float64)


@pytest.mark.parametrize("norm", [False, True])
def test_a_block_equals_the_formula(x: torch.Tensor, norm: bool) -> None:
    block = MAB(8, query_dim=6, key_dim=5, num_heads=2, norm=norm).double()
    y = torch.randn(2, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(block(x, y), formula(block, x, y))


def test_the_others_are_made_of_blocks(x: torch.Tensor) -> None:
    sab = SAB(8, in_dim=6, num_heads=2).double()
    torch.testing.assert_close(sab(x), formula(sab.mab, x, x))
    isab = ISAB(8, in_dim=6, num_heads=2, num_points=3).double()
    points = formula(isab.gather, isab.points.expand(2, -1, -1), x)
    torch.testing.assert_close(isab(x), formula(isab.read, x, points))
    pma = PMA(6, num_heads=2, num_seeds=2).double()
    torch.testing.assert_close(pma(x), formula(pma.mab, pma.seeds.expand(2, -1, -1), x))


def test_pooling_does_not_depend_on_the_order(x: torch.Tensor) -> None:
    pma = PMA(6, num_heads=2).double()
    torch.testing.assert_close(pma(x), pma(x[:, torch.randperm(7)]))


def test_padding_changes_nothing(x: torch.Tensor) -> None:
    isab = ISAB(6, num_heads=2, num_points=3).double()
    mask = torch.tensor([True] * 5 + [False] * 2).expand(2, 7)
    torch.testing.assert_close(isab(x, mask)[:, :5], isab(x[:, :5]))


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^PMA: num_heads=4 does not divide embed_dim=6; use num_heads=3 or 6$"):
        PMA(6)
