import pytest

from attnzoo.constructed import activation, batch_norm, class_name, keyword, mm_batch_norm, token_norm
from attnzoo.errors import ExpressionError


def partial(*args, **kwargs):
    return {"call": "functools.partial", "args": list(args), "kwargs": kwargs}


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("torch.nn.Hardswish", "hard_swish"),
        ("swish", "silu"),
        ("LogSigmoid", "log_sigmoid"),
        (partial("torch.nn.SiLU", inplace=True), "silu"),
        ({"call": "torch.nn.LeakyReLU"}, "leaky_relu"),
        ({"call": "torch.nn.LeakyReLU", "args": [0.01]}, "leaky_relu"),
        (partial("torch.nn.ELU", alpha=1.0, inplace=True), "elu"),
        ({"call": "torch.nn.GELU", "kwargs": {"approximate": "tanh"}}, "gelu_tanh"),
        (partial("torch.nn.GELU", approximate="none"), "gelu"),
        (None, None),
    ],
)
def test_an_activation_has_our_name(layer, name):
    assert activation(layer) == name


@pytest.mark.parametrize(
    "layer", [partial("torch.nn.LeakyReLU", 0.2), {"call": "torch.nn.ELU", "kwargs": {"alpha": 2}}]
)
def test_an_activation_with_numbers_of_its_own_is_refused(layer):
    with pytest.raises(ExpressionError, match="expected one without arguments"):
        activation(layer)


@pytest.mark.parametrize(
    ("layer", "has"),
    [
        (None, False),
        ("torch.nn.Identity", False),
        ("torch.nn.BatchNorm2d", True),
        ("batch_norm", True),
        (partial("torch.nn.BatchNorm2d", eps=1e-5), True),
        ({"call": "torch.nn.BatchNorm2d", "args": [16]}, True),
    ],
)
def test_a_batch_norm_is_known(layer, has):
    assert batch_norm(layer) is has


@pytest.mark.parametrize(
    "layer",
    [
        "torch.nn.GroupNorm",
        partial("torch.nn.BatchNorm2d", eps=1e-3),
        {"call": "torch.nn.BatchNorm2d", "args": [16], "kwargs": {"momentum": 0.01}},
        {"call": "torch.nn.BatchNorm2d", "args": [16, 1e-3]},
    ],
)
def test_another_norm_is_refused(layer):
    with pytest.raises(ExpressionError, match="expected none or a batch norm with torch's defaults"):
        batch_norm(layer)


def test_the_class_and_its_keywords_are_told():
    layer = partial("torch.nn.LayerNorm", eps=1e-6)
    assert (class_name(layer), keyword(layer, "eps", 1e-5)) == ("torch.nn.LayerNorm", 1e-6)
    assert (class_name("torch.nn.LayerNorm"), keyword("torch.nn.LayerNorm", "eps", 1e-5)) == (
        "torch.nn.LayerNorm",
        1e-5,
    )


@pytest.mark.parametrize("layer", [{"call": "torch.nn.LayerNorm", "args": [16, 1e-6]}, partial("n", bias=False)])
def test_other_arguments_of_a_layer_are_refused(layer):
    with pytest.raises(ExpressionError, match=r"expected no argument but eps$"):
        keyword(layer, "eps", 1e-5)


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        ("torch.nn.LayerNorm", "layer"),
        (partial("torch.nn.LayerNorm", eps=1e-6), "layer"),
        ("timm.layers.LayerNormFp32", "layer"),
        ("torch.nn.RMSNorm", "rms"),
        ({"call": "timm.layers.RmsNorm", "args": [8]}, "rms"),
        ("timm.layers.RmsNorm2d", None),
        ("timm.layers.LayerNorm2d", None),
        ("timm.layers.SimpleNorm", None),
        ("torch.nn.BatchNorm1d", None),
        (None, None),
    ],
)
def test_the_kind_of_a_norm_of_tokens_is_told(layer, kind):
    assert token_norm(layer) == kind


@pytest.mark.parametrize(
    ("norm_cfg", "usual"),
    [
        ({"type": "BN"}, True),
        ({"type": "SyncBN", "requires_grad": True}, True),
        ({"type": "BN2d", "eps": 1e-5, "momentum": 0.1}, True),
        ({"type": "BN", "eps": 1e-3}, False),
        ({"type": "BN", "momentum": 0.01}, False),
        ({"type": "BN", "affine": False}, False),
        ({"type": "GN", "num_groups": 8}, False),
        (None, False),
    ],
)
def test_a_batch_norm_of_mmcv_is_known(norm_cfg, usual):
    assert mm_batch_norm(norm_cfg) is usual
