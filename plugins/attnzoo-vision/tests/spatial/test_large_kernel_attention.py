import pytest
import torch
import torch.nn.functional as F

import attnzoo
from attnzoo.errors import DialectError
from attnzoo_vision.spatial.large_kernel_attention import LargeKernelAttention
from attnzoo_vision.spatial.van_attention import VANAttention
from attnzoo_vision.spatial.van_block import VANBlock


def test_the_input_is_multiplied_by_three_convolutions():
    block = LargeKernelAttention(4).double()
    x = torch.randn(2, 4, 9, 7).double()
    a = F.conv2d(x, block.local.weight, block.local.bias, padding=2, groups=4)
    a = F.conv2d(a, block.dilated.weight, block.dilated.bias, padding=9, dilation=3, groups=4)
    assert block.dilated.weight.shape[-1] == 7
    torch.testing.assert_close(block(x), x * block.pointwise(a))


def test_a_kernel_that_cannot_be_centred_is_refused():
    message = "^LargeKernelAttention: kernel_size=12 with dilation=3 needs 4 taps, which is even; use 9 or 13$"
    with pytest.raises(ValueError, match=message):
        LargeKernelAttention(4, kernel_size=12)


def test_the_attention_has_a_shortcut_of_its_own():
    block = VANAttention(4).double()
    x = torch.randn(2, 4, 9, 7).double()
    hidden = F.gelu(block.project_in(x))
    torch.testing.assert_close(block(x), x + block.project_out(block.lka(hidden)))


def test_the_layer_adds_scaled_attention_and_mlp():
    block = VANBlock(4, mlp_ratio=2.0).double().eval()
    x = torch.randn(2, 4, 5, 6).double()
    y = x + block.attention_scale[:, None, None] * block.attend(block.attention_norm(x))
    hidden = F.gelu(block.depthwise(block.expand(block.mlp_norm(y))))
    torch.testing.assert_close(block(x), y + block.mlp_scale[:, None, None] * block.reduce(hidden))


def test_drop_path_leaves_branches_of_whole_samples_out():
    torch.manual_seed(0)
    block = VANBlock(4, drop_path=0.9).train()
    x = torch.randn(16, 4, 5, 6)
    unchanged = (block(x) == x).flatten(1).all(1)
    assert 0 < unchanged.sum() < 16


def test_an_mlp_without_a_hidden_channel_is_refused():
    message = "VANBlock: mlp_ratio=0.1 leaves no hidden channel of channels=4; use a larger one"
    with pytest.raises(ValueError, match=f"^{message}$"):
        VANBlock(4, mlp_ratio=0.1)


@pytest.mark.parametrize("activation", [{"type": "ReLU"}, {"type": "GELU", "approximate": "tanh"}])
def test_another_activation_of_mmpretrain_is_refused(tmp_path, activation):
    attnzoo.export(attnzoo.create("van-attention", channels=4), tmp_path / "a.safetensors", "mmpretrain")
    theirs = {"embed_dims": 4, "act_cfg": activation}
    with pytest.raises(DialectError, match=r"^dialect 'mmpretrain': does not hold for these arguments, "):
        attnzoo.load_foreign(tmp_path / "a.safetensors", "van-attention", "mmpretrain", **theirs)
