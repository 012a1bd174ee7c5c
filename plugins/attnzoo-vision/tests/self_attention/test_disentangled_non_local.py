"""Disentangled non-local: the formula written out for each whitening, and the choices that exclude each other."""

import pytest
import torch

import attnzoo
from attnzoo.errors import DialectError
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
    expected = r"^DisentangledNonLocal: unary='query' with pairwise=True and whiten=\['none'\], expected True and "
    expected += r"'channel' or 'layer'; use unary='mask' or these$"
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


@pytest.mark.parametrize("kind", ["batch-norm", "batch-norm-affine"])
def test_one_position_of_one_sample_trains_through_the_batch_norms(kind):
    block = DisentangledNonLocal(6, whiten=kind).train()
    block(torch.randn(1, 6, 1, 1)).sum().backward()
    assert block.query_norm.running_mean.eq(0).all()


@pytest.mark.parametrize("training", [False, True])
def test_without_gamma_both_terms_pass_one_projection_and_norm(training):
    torch.manual_seed(0)
    block = DisentangledNonLocal(6, hidden_channels=4, temperature=0.5, gamma=False, output="project-norm").double()
    for parameter in block.train(training).parameters():
        torch.nn.init.normal_(parameter)
    x_nchw = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    x_nlc = x_nchw.flatten(2).mT
    query_nlr, key_nlr = _whitened(block.query(x_nlc), "channel"), _whitened(block.key(x_nlc), "channel")
    weight_nlm = torch.softmax(query_nlr @ key_nlr.mT / (2 * 0.5), dim=2)
    unary_n1m = torch.softmax(block.mask(x_nlc), dim=1).mT
    y_nlc = block.out((weight_nlm + unary_n1m) @ block.value(x_nlc))
    mean, variance = (None, None) if training else (torch.zeros(6).double(), torch.ones(6).double())
    y_nlc = torch.nn.functional.batch_norm(
        y_nlc.mT, mean, variance, block.out_norm.weight, block.out_norm.bias, training
    )
    torch.testing.assert_close(block(x_nchw), x_nchw + y_nlc.reshape(x_nchw.shape))


def test_without_gamma_the_start_is_the_identity_and_mmsegmentations():
    torch.manual_seed(0)
    block = DisentangledNonLocal(512, gamma=False, output="project-norm")
    x_nchw = torch.randn(2, 512, 3, 2)
    assert torch.equal(block(x_nchw), x_nchw)
    assert block.query.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert block.value.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert block.out.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.03)
    assert block.mask.weight.abs().max().item() == pytest.approx(512**-0.5, rel=0.03)


def test_with_gamma_the_start_has_small_weights_and_no_pairwise_term():
    torch.manual_seed(0)
    block = DisentangledNonLocal(256)
    for layer in (block.query, block.key, block.value):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert block.mask.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert block.gamma.item() == 0
    assert block.query.bias.eq(0).all()
    assert block.mask.bias.eq(0).all()


def test_a_transform_of_other_channels_than_the_projected_values_is_refused():
    expected = "unary='transform' has the channels of the input, projected values hidden_channels; make them equal"
    with pytest.raises(ValueError, match=f"^DisentangledNonLocal: {expected}$"):
        DisentangledNonLocal(6, hidden_channels=3, unary="transform", output="project")


def test_a_block_without_any_term_is_refused():
    expected = "DisentangledNonLocal: unary='none' with pairwise=False leaves no term; keep one of them"
    with pytest.raises(ValueError, match=f"^{expected}$"):
        DisentangledNonLocal(6, unary="none", pairwise=False)


@pytest.mark.parametrize("changed", [{"eps": 1e-3}, {"momentum": 0.01}])
def test_another_norm_of_mmsegmentation_is_refused(tmp_path, changed):
    path = tmp_path / "dnl.safetensors"
    block = attnzoo.create("disentangled-non-local", channels=6, gamma=False, output="project-norm")
    attnzoo.export(block, path, "mmseg")
    given = {"in_channels": 6, "norm_cfg": {"type": "BN", **changed}}
    with pytest.raises(DialectError, match="dialect 'mmseg': does not hold for these arguments, expected mode == "):
        attnzoo.load_foreign(path, "disentangled-non-local", "mmseg", **given)


def test_the_norm_of_mmsegmentations_configurations_is_taken(tmp_path):
    path = tmp_path / "dnl.safetensors"
    block = attnzoo.create("disentangled-non-local", channels=6, gamma=False, output="project-norm").eval()
    torch.nn.init.normal_(block.out_norm.weight)
    attnzoo.export(block, path, "mmseg")
    norm = {"type": "SyncBN", "requires_grad": True, "momentum": 0.1}
    loaded = attnzoo.load_foreign(path, "disentangled-non-local", "mmseg", in_channels=6, norm_cfg=norm).eval()
    x_nchw = torch.randn(2, 6, 4, 5)
    assert torch.equal(loaded(x_nchw), block(x_nchw))
