import pytest
import torch

from attnzoo_sequence.efficient.linformer import Linformer


def test_equals_the_formula() -> None:
    torch.manual_seed(0)
    block = Linformer(6, 9, compressed_len=3, num_heads=2).double()
    x = torch.randn(2, 7, 6, dtype=torch.float64)
    assert block.value is not None
    assert block.compress_value is not None
    key = torch.einsum("mk,nmc->nkc", block.compress_key[:7], block.key(x))
    value = torch.einsum("mk,nmc->nkc", block.compress_value[:7], block.value(x))
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        score = block.query(x)[..., part] @ key[..., part].transpose(1, 2) / 3**0.5
        heads.append(score.softmax(dim=-1) @ value[..., part])
    torch.testing.assert_close(block(x), block.out_proj(torch.cat(heads, dim=-1)))


def test_hidden_tokens_add_nothing() -> None:
    torch.manual_seed(0)
    block = Linformer(6, 9, compressed_len=3, num_heads=2, share_kv=True)
    x = torch.randn(2, 7, 6)
    mask = torch.tensor([True] * 4 + [False] * 3).expand(2, 7)
    torch.testing.assert_close(block(x, mask_nm=mask), block(x, x[:, :4]))


def test_a_sequence_that_is_too_long_is_refused() -> None:
    message = r"^Linformer: 10 keys are more than max_len=9; build it with a larger max_len$"
    with pytest.raises(ValueError, match=message):
        Linformer(6, 9, num_heads=2)(torch.zeros(1, 10, 6))
