import pytest
import torch

from attnzoo_sequence.pooling.perceiver_cross_attention import PerceiverCrossAttention


@pytest.mark.parametrize("residual", [True, False])
def test_equals_the_formula(residual: bool) -> None:
    torch.manual_seed(0)
    block = PerceiverCrossAttention(6, 4, num_heads=2, value_channels=8, mlp_ratio=2, query_residual=residual).double()
    latents, source = torch.randn(2, 3, 6, dtype=torch.float64), torch.randn(2, 9, 4, dtype=torch.float64)
    query, key, value = (
        block.query(block.query_norm(latents)),
        *(p(block.source_norm(source)) for p in (block.key, block.value)),
    )
    heads = []
    for q, k, v in zip(*(t.chunk(2, dim=-1) for t in (query, key, value)), strict=True):
        heads.append((q @ k.transpose(1, 2) / 2**0.5).softmax(dim=-1) @ v)
    wanted = block.out_proj(torch.cat(heads, dim=-1)) + (latents if residual else 0)
    wanted = wanted + block.mlp_out(torch.nn.functional.gelu(block.mlp_in(block.mlp_norm(wanted))))
    torch.testing.assert_close(block(latents, source), wanted)


def test_padding_is_not_read() -> None:
    torch.manual_seed(0)
    block = PerceiverCrossAttention(6, 4, num_heads=2)
    latents, source = torch.randn(1, 3, 6), torch.randn(1, 9, 4)
    mask = torch.tensor([[True] * 5 + [False] * 4])
    torch.testing.assert_close(block(latents, source, mask), block(latents, source[:, :5]))


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^PerceiverCrossAttention: num_heads=3 does not divide key_channels=4; use num_heads=2 or 4$"
    ):
        PerceiverCrossAttention(6, 4, num_heads=3)
