import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.temporal.gltr import GLTR
from attnzoo_vision.temporal.temporal_self_attention import TemporalSelfAttention


def test_self_attention_is_unscaled_and_added():
    block = TemporalSelfAttention(6).double().eval()
    torch.nn.init.normal_(block.norm.weight)
    x = torch.randn(2, 6, 7).double()
    t = x.transpose(1, 2)
    weights = torch.softmax(block.query(t) @ block.key(t).mT, -1)
    y = block.norm(block.project(weights @ block.value(t)).transpose(1, 2))
    torch.testing.assert_close(block(x), x + y)


def test_self_attention_starts_as_the_identity():
    x = torch.randn(2, 6, 7)
    assert torch.equal(TemporalSelfAttention(6)(x), x)


def test_the_clip_vector_joins_the_feature_and_its_dilated_convolutions():
    block = GLTR(4).double().eval()
    x = torch.randn(2, 9, 4).double().transpose(1, 2)
    parts = [F.conv1d(x, c.weight, padding=d, dilation=d) for d, c in zip((1, 2, 3), block.convs, strict=True)]
    torch.testing.assert_close(block(x.transpose(1, 2)), block.attend(torch.cat([x, *parts], 1)).mean(2))


def test_the_form_of_the_paper_joins_the_convolutions_alone():
    block = GLTR(4, dilations=[1, 2, 4], keep_frames=False).double().eval()
    torch.nn.init.normal_(block.attend.norm.weight)
    x = torch.randn(2, 4, 9).double()
    parts = [F.conv1d(x, c.weight, padding=d, dilation=d) for d, c in zip((1, 2, 4), block.convs, strict=True)]
    y = block(x.transpose(1, 2))
    assert y.shape == (2, 12)
    torch.testing.assert_close(y, block.attend(torch.cat(parts, 1)).mean(2))


def test_a_new_pyramid_is_small_and_normal():
    torch.manual_seed(0)
    for conv in GLTR(128).convs:
        assert conv.weight.std().item() == pytest.approx(0.001, rel=0.02)


def test_no_dilation_is_refused():
    with pytest.raises(ValueError, match=r"^GLTR: dilations=\[\] is empty; give at least one number$"):
        GLTR(4, dilations=[])
