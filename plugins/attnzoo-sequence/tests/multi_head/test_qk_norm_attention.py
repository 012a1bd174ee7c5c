import pytest
import torch

from attnzoo_sequence.multi_head.qk_norm_attention import QKNormAttention


def rms(x, gain, eps):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain


@pytest.mark.parametrize("norm", ["head", "projection"])
def test_it_is_the_formula(norm):
    torch.manual_seed(0)
    block = QKNormAttention(8, 2, norm=norm, rotary_base=None, eps=0.01).double()
    with torch.no_grad():
        block.query_norm.weight.normal_()
        block.key_norm.weight.normal_()
    x = torch.randn(2, 5, 8).double()
    q, k, v = block.query(x), block.key(x), block.value(x)
    if norm == "projection":
        q, k = rms(q, block.query_norm.weight, 0.01), rms(k, block.key_norm.weight, 0.01)
    heads = []
    for h in range(2):
        q_h, k_h, v_h = (t[..., 4 * h : 4 * h + 4] for t in (q, k, v))
        if norm == "head":
            q_h, k_h = rms(q_h, block.query_norm.weight, 0.01), rms(k_h, block.key_norm.weight, 0.01)
        score = (q_h @ k_h.mT / 2).masked_fill(~torch.ones(5, 5).tril().bool(), -torch.inf)
        heads.append(score.softmax(-1) @ v_h)
    torch.testing.assert_close(block(x), block.output(torch.cat(heads, -1)))


def test_an_unknown_norm_is_refused():
    with pytest.raises(
        ValueError, match=r"^QKNormAttention: norm='token' is not known; use one of 'head', 'projection'$"
    ):
        QKNormAttention(8, 2, norm="token")
