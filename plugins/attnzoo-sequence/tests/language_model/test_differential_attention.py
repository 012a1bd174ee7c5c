import math

import pytest
import torch

from attnzoo_sequence.language_model.differential_attention import DifferentialAttention


def rotated(x: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    angle = torch.arange(x.shape[2], dtype=x.dtype)[:, None] * 10000.0 ** -(
        torch.arange(0, x.shape[-1], 2) / x.shape[-1]
    )
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


@pytest.mark.parametrize("num_kv_heads", [2, 1])
def test_equals_the_formula(num_kv_heads: int) -> None:
    torch.manual_seed(0)
    block = DifferentialAttention(16, 2, num_heads=2, num_kv_heads=num_kv_heads).double()
    x = torch.randn(3, 7, 16, dtype=torch.float64)
    query = rotated(block.query(x).view(3, 7, 4, 4).transpose(1, 2))
    key = rotated(block.key(x).view(3, 7, 2 * num_kv_heads, 4).transpose(1, 2))
    value = block.value(x).view(3, 7, num_kv_heads, 8).transpose(1, 2)
    start = 0.8 - 0.6 * math.exp(-0.6)
    first, second = (block.lambda_query * block.lambda_key).sum(dim=1).exp()
    hidden = torch.ones(7, 7, dtype=torch.bool).triu(1)
    heads = []
    for h in range(2):
        g = h * num_kv_heads // 2
        maps = [
            (query[:, 2 * h + i] @ key[:, 2 * g + i].transpose(1, 2) / 2).masked_fill(hidden, -math.inf).softmax(dim=-1)
            for i in (0, 1)
        ]
        out = (maps[0] - (first - second + start) * maps[1]) @ value[:, g]
        out = out / (out.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * block.norm.weight
        heads.append(out * (1 - start))
    torch.testing.assert_close(block(x), block.out_proj(torch.cat(heads, dim=-1)))


def test_later_tokens_change_nothing_before_them() -> None:
    torch.manual_seed(0)
    block = DifferentialAttention(16, 0, num_heads=2)
    x = torch.randn(1, 7, 16)
    torch.testing.assert_close(block(x)[:, :4], block(x[:, :4]))


def test_rows_of_the_map_sum_to_one_minus_lambda() -> None:
    torch.manual_seed(0)
    block = DifferentialAttention(16, 0, num_heads=2)
    rows = block.attention(torch.randn(1, 7, 16))["attention"].sum(dim=-1)
    torch.testing.assert_close(rows, (1 - block._lambda()).expand_as(rows))


def test_heads_of_an_odd_number_of_pairs_are_refused() -> None:
    message = r"^DifferentialAttention: embed_dim=12 over num_heads=2 is not a multiple of 4$"
    with pytest.raises(ValueError, match=message):
        DifferentialAttention(12, 0, num_heads=2)
