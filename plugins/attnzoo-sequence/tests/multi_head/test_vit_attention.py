import pytest
import torch

import attnzoo
from attnzoo.errors import DialectError
from attnzoo_sequence.multi_head.vit_attention import ViTAttention


def test_it_is_the_formula():
    torch.manual_seed(0)
    block = ViTAttention(
        8, 2, head_dim=3, out_dim=5, bias=True, qk_norm="layer", output_norm="rms", gated=True
    ).double()
    x = torch.randn(2, 4, 8).double()
    q, k, v = block.qkv(x).chunk(3, dim=-1)
    heads = []
    for h in range(2):
        part = slice(3 * h, 3 * h + 3)
        score = block.query_norm(q[..., part]) @ block.key_norm(k[..., part]).transpose(1, 2) / 3**0.5
        heads.append(score.softmax(-1) @ v[..., part])
    joined = block.output_norm(torch.cat(heads, -1)) * torch.sigmoid(block.gate(x))
    torch.testing.assert_close(block(x), block.output(joined))


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match=r"^ViTAttention: qk_norm='batch' is not known; use one of 'layer', 'rms'$"):
        ViTAttention(8, 2, qk_norm="batch")


@pytest.mark.parametrize("norm_layer", ["timm.layers.SimpleNorm", "timm.layers.RmsNorm2d", "torch.nn.Identity"])
def test_another_norm_of_timm_is_refused(tmp_path, norm_layer):
    path = tmp_path / "a.safetensors"
    attnzoo.export(attnzoo.create("vit-attention", embed_dim=8, num_heads=2, qk_norm="rms"), path, "timm")
    with pytest.raises(DialectError, match=r"^dialect 'timm': does not hold for these arguments, "):
        attnzoo.load_foreign(path, "vit-attention", "timm", dim=8, num_heads=2, qk_norm=True, norm_layer=norm_layer)
