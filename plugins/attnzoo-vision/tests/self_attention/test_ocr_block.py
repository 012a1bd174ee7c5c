"""Object-contextual representations: the formula written out with the joined map."""

import pytest
import torch
from torch.nn import functional as F

import attnzoo
from attnzoo.errors import DialectError
from attnzoo_vision.self_attention.ocr_block import OCRBlock


def _unit(unit, x_nlc, training):
    y_mo = unit.linear(x_nlc).flatten(0, 1)
    mean, variance = (None, None) if training else (unit.norm.running_mean, unit.norm.running_var)
    return torch.relu(F.batch_norm(y_mo, mean, variance, training=training)).view(*x_nlc.shape[:2], -1)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("pool_size", [1, 2])
def test_pixels_are_described_by_the_classes(training, pool_size):
    torch.manual_seed(0)
    block = OCRBlock(6, hidden_channels=4, out_channels=5, pool_size=pool_size, dropout=0.0).double().train(training)
    x_nchw = torch.randn(2, 6, 4, 6, dtype=torch.float64)
    logits_nkhw = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    proxy_nkc = torch.softmax(logits_nkhw.flatten(2), dim=2) @ x_nchw.flatten(2).mT
    pooled_nchw = torch.max_pool2d(x_nchw, pool_size)
    query_nlr = _unit(block.pixel[1], _unit(block.pixel[0], pooled_nchw.flatten(2).mT, training), training)
    key_nkr = _unit(block.object[1], _unit(block.object[0], proxy_nkc, training), training)
    weight_nlk = torch.softmax(query_nlr @ key_nkr.mT / 2, dim=2)
    context_nlc = _unit(block.up, weight_nlk @ _unit(block.down, proxy_nkc, training), training)
    context_nchw = context_nlc.mT.reshape(pooled_nchw.shape)
    context_nchw = F.interpolate(context_nchw, (4, 6), mode="bilinear", align_corners=True)
    joined_nchw = torch.cat([context_nchw, x_nchw], dim=1)
    y_nohw = torch.einsum("oc,nchw->nohw", block.out.weight, joined_nchw)
    mean, variance = (None, None) if training else (torch.zeros(5).double(), torch.ones(5).double())
    expected = torch.relu(F.batch_norm(y_nohw, mean, variance, training=training))
    torch.testing.assert_close(block(x_nchw, logits_nkhw), expected)


@pytest.mark.parametrize(
    "theirs",
    [
        {"act_cfg": None},
        {"act_cfg": {"type": "LeakyReLU"}},
        {"norm_cfg": {"type": "BN", "eps": 1e-3}},
        {"norm_cfg": {"type": "BN", "momentum": 0.01}},
    ],
)
def test_another_activation_or_norm_of_mmsegmentation_is_refused(tmp_path, theirs):
    path = tmp_path / "ocr.safetensors"
    attnzoo.export(attnzoo.create("ocr-block", channels=6, hidden_channels=4, dropout=0.0), path, "mmseg")
    with pytest.raises(DialectError, match="dialect 'mmseg': does not hold for these arguments, expected scale == 1 "):
        attnzoo.load_foreign(path, "ocr-block", "mmseg", in_channels=6, channels=4, **theirs)


def test_the_norm_and_the_activation_of_mmsegmentations_configurations_are_taken(tmp_path):
    path = tmp_path / "ocr.safetensors"
    block = attnzoo.create("ocr-block", channels=6, hidden_channels=4, dropout=0.0).eval()
    attnzoo.export(block, path, "mmseg")
    norm = {"type": "SyncBN", "requires_grad": True, "eps": 1e-5}
    given = {"in_channels": 6, "channels": 4, "norm_cfg": norm, "act_cfg": {"type": "ReLU", "inplace": True}}
    loaded = attnzoo.load_foreign(path, "ocr-block", "mmseg", **given).eval()
    inputs = torch.randn(2, 6, 4, 5), torch.randn(2, 3, 4, 5)
    assert torch.equal(loaded(*inputs), block(*inputs))
