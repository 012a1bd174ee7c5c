"""Disentangled non-local: the formula written out for each whitening, and the choices that exclude each other."""

import pytest
import torch

from attnzoo_vision.self_attention.disentangled_non_local import DisentangledNonLocal


def _whitened(x_nlc, kind):
    axes = {"channel": 1, "position": 2, "layer": (1, 2), "batch-layer": (0, 1, 2)}[kind.removesuffix("-std")]
    centred = x_nlc - x_nlc.mean(axes, keepdim=True)
    return centred / (x_nlc.var(axes, keepdim=True) + 1e-5).sqrt() if kind.endswith("-std") else centred


@pytest.mark.parametrize("kind", ["channel", "channel-std", "position", "layer", "layer-std", "batch-layer-std"])
@pytest.mark.parametrize("pool_size", [1, 2])
def test_queries_and_keys_are_whitened_and_the_mask_is_shared(kind, pool_size):
    torch.manual_seed(0)
    block = DisentangledNonLocal(6, hidden_channels=4, whiten=kind, temperature=0.5, pool_size=pool_size).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x_nchw = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    x_nlc = x_nchw.flatten(2).mT
    key_nmc = torch.max_pool2d(x_nchw, pool_size).flatten(2).mT
    query_nlr, key_nmr = _whitened(block.query(x_nlc), kind), _whitened(block.key(key_nmc), kind)
    weight_nlm = torch.softmax(query_nlr @ key_nmr.mT / (2 * 0.5), dim=2)
    value_nmc = block.value(key_nmc)
    unary_nc = (torch.softmax(block.mask(key_nmc), dim=1) * value_nmc).sum(1)
    expected_nlc = x_nlc + block.gamma * weight_nlm @ value_nmc + unary_nc[:, None]
    torch.testing.assert_close(block(x_nchw), expected_nlc.mT.reshape(x_nchw.shape))
    torch.testing.assert_close(block.attention(x_nchw)["pairwise"], weight_nlm)


def test_without_the_pairwise_term_all_positions_get_the_same():
    block = DisentangledNonLocal(6, pairwise=False)
    x_nchw = torch.randn(2, 6, 5, 4)
    change_nchw = block(x_nchw) - x_nchw
    torch.testing.assert_close(change_nchw, change_nchw[:, :, :1, :1].expand_as(change_nchw))


def test_choices_that_exclude_each_other_are_refused():
    expected = "DisentangledNonLocal: unary='query' needs pairwise=True and whiten='channel' or 'layer'"
    with pytest.raises(ValueError, match=expected):
        DisentangledNonLocal(6, unary="query", whiten="none")


def test_whitenings_follow_each_other_in_the_order_of_the_list():
    torch.manual_seed(0)
    kinds = ["position", "layer-std"]
    block = DisentangledNonLocal(6, hidden_channels=4, whiten=kinds, temperature=1.0, unary="none").double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x_nlc = torch.randn(2, 20, 6, dtype=torch.float64)
    query_nlr, key_nlr = block.query(x_nlc), block.key(x_nlc)
    for kind in kinds:
        query_nlr, key_nlr = _whitened(query_nlr, kind), _whitened(key_nlr, kind)
    weight_nlm = torch.softmax(query_nlr @ key_nlr.mT / 2, dim=2)
    torch.testing.assert_close(block.attention(x_nlc.mT.reshape(2, 6, 5, 4))["pairwise"], weight_nlm)


def test_two_batch_norms_are_refused():
    expected = r"^DisentangledNonLocal: whiten=\['batch-norm', 'batch-norm-affine'\] has two batch norms; keep one$"
    with pytest.raises(ValueError, match=expected):
        DisentangledNonLocal(6, whiten=["batch-norm", "batch-norm-affine"])
