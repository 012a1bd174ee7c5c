import math
import re

import pytest
import torch

from attnzoo_sequence.language_model.multi_head_latent_attention import MultiHeadLatentAttention
from attnzoo_sequence.ops.yarn import yarn_tables


def blocks(causal: bool = True, bias: bool = False) -> tuple[MultiHeadLatentAttention, MultiHeadLatentAttention]:
    torch.manual_seed(0)
    options = {"num_heads": 2, "query_rank": 6, "kv_rank": 5, "head_dims": (4, 2, 3), "causal": causal}
    plain, absorbed = (MultiHeadLatentAttention(8, **options, absorbed=form).double() for form in (False, True))
    if bias:
        for block in (plain, absorbed):
            block.kv_up.bias = torch.nn.Parameter(torch.zeros(block.kv_up.out_features).double())
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    absorbed.load_state_dict(plain.state_dict())
    return plain, absorbed


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_the_absorbed_form_gives_the_same_numbers_and_gradients(causal: bool, bias: bool) -> None:
    plain, absorbed = blocks(causal, bias)
    x = torch.randn(2, 7, 8, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    for given in (None, mask, ~mask):
        first, second = plain(x, given), absorbed(x, given)
        torch.testing.assert_close(first, second)
        torch.testing.assert_close(torch.autograd.grad(first.sum(), x), torch.autograd.grad(second.sum(), x))


def test_forward_equals_its_weights() -> None:
    plain, _ = blocks()
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    latent = plain.kv_norm(plain.kv_down(x)[..., :5])
    value = plain.kv_up(latent).view(2, 7, 2, 7)[..., 4:].transpose(1, 2)
    wanted = (plain.attention(x)["attention"] @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(plain(x), plain.out_proj(wanted))


def test_scores_are_shifted_together_with_the_positions() -> None:
    plain, _ = blocks(causal=False)
    x = torch.randn(1, 5, 8, dtype=torch.float64)
    later = torch.cat([torch.randn(1, 3, 8, dtype=torch.float64), x], dim=1)
    mask = torch.tensor([[False] * 3 + [True] * 5])
    torch.testing.assert_close(plain(later, mask)[:, 3:], plain(x))


def test_yarn_divides_slow_frequencies_and_sharpens_the_scores() -> None:
    x = torch.zeros(1, 1, 9, 64, dtype=torch.float64)
    cos, sin = yarn_tables(x, base=10000.0, yarn=(40, 4096, 32, 1, 1.0, 1.0))
    angle = torch.atan2(sin[1], cos[1])
    plain = 10000.0 ** -(torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    torch.testing.assert_close(angle[:10], plain[:10])
    torch.testing.assert_close(angle[-8:], plain[-8:] / 40)
    assert (angle[11:23] < plain[11:23]).all()
    block = MultiHeadLatentAttention(8, head_dims=(4, 2, 3), yarn=(40, 4096, 32, 1, 1.0, 1.0))
    assert block.scale == pytest.approx(6**-0.5 * (0.1 * math.log(40) + 1) ** 2)


def test_an_odd_rotated_part_is_refused() -> None:
    message = (
        "head_dims=(4, 3, 3), expected three positive numbers (without position, with position, value), the second even"
    )
    with pytest.raises(ValueError, match=f"^MultiHeadLatentAttention: {re.escape(message)}$"):
        MultiHeadLatentAttention(8, head_dims=(4, 3, 3))
