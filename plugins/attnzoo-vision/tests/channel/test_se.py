import pytest
import torch

import attnzoo
from attnzoo.errors import DialectError
from attnzoo_vision.channel.se import SE


def mmpretrain_block(path, **theirs):
    attnzoo.export(attnzoo.create("se", channels=8, hidden_channels=4), path / "a.safetensors", "mmpretrain")
    return attnzoo.load_foreign(path / "a.safetensors", "se", "mmpretrain", channels=8, squeeze_channels=4, **theirs)


def test_output_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    block = SE(8, reduction=2).double()
    x = torch.randn(2, 8, 5, 3, dtype=torch.float64)
    hidden = torch.relu(x.mean((2, 3)) @ block.squeeze.weight.T + block.squeeze.bias)
    weight = torch.sigmoid(hidden @ block.excite.weight.T + block.excite.bias)
    torch.testing.assert_close(block(x), x * weight[:, :, None, None])


def test_channels_last_and_training_give_the_same_numbers():
    torch.manual_seed(0)
    block = SE(8, reduction=2, max_pool=True)
    x = torch.randn(2, 8, 5, 3)
    y = block(x)
    torch.testing.assert_close(block(x.to(memory_format=torch.channels_last)), y)
    torch.testing.assert_close(block(x.requires_grad_()), y)


def test_the_gate_of_slope_one_fifth_is_zero_at_minus_two_and_a_half():
    block = SE(4, reduction=2, gate="hard_sigmoid_0.2")
    with torch.no_grad():
        block.excite.weight.zero_()
        block.excite.bias.copy_(torch.tensor([-2.5, 0.0, 1.0, 2.5]))
    weight = block.attention(torch.randn(1, 4, 2, 2))["channel"].flatten()
    torch.testing.assert_close(weight, torch.tensor([0.0, 0.5, 0.7, 1.0]))


@pytest.mark.parametrize(("channels", "hidden"), [(8, 1), (16, 1), (24, 1), (40, 2), (64, 4)])
def test_hidden_units_are_rounded_down_but_one_stays(channels, hidden):
    block = SE(channels)
    assert block.squeeze.weight.shape == (hidden, channels)
    x = torch.randn(2, channels, 3, 5)
    activated = torch.relu(x.mean((2, 3)) @ block.squeeze.weight.T + block.squeeze.bias)
    weight = torch.sigmoid(activated @ block.excite.weight.T + block.excite.bias)
    torch.testing.assert_close(block(x), x * weight[:, :, None, None])


def test_a_reduction_below_one_is_refused():
    with pytest.raises(ValueError, match=r"^SE: reduction=0 is below 1; use 1 or more$"):
        SE(64, reduction=0)


def test_an_unknown_gate_is_refused():
    message = (
        "^SE: gate='soft' is not known; use one of 'sigmoid', 'hard_sigmoid', 'tanh', 'hard_sigmoid_0.2', 'relu', "
        "'relu6', 'leaky_relu', 'elu', 'celu', 'selu', 'silu', 'gelu', 'gelu_tanh', 'quick_gelu', 'hard_swish', "
        "'mish', 'hard_mish', 'softplus', 'softsign', 'log_sigmoid', 'hard_tanh', 'identity'$"
    )
    with pytest.raises(ValueError, match=message):
        SE(64, gate="soft")


@pytest.mark.parametrize("numbers", [{}, {"bias": 3, "divisor": 6, "min_value": 0, "max_value": 1}])
def test_the_activations_of_mmpretrain_are_read(tmp_path, numbers):
    torch.manual_seed(0)
    block = mmpretrain_block(tmp_path, act_cfg=[{"type": "Swish"}, {"type": "HSigmoid", **numbers}])
    x = torch.randn(2, 8, 5, 3)
    hidden = torch.nn.functional.silu(block.squeeze(x.mean((2, 3))))
    gate = torch.nn.functional.hardsigmoid(block.excite(hidden))
    torch.testing.assert_close(block(x), x * gate[:, :, None, None])


@pytest.mark.parametrize(
    "theirs",
    [
        {"act_cfg": [{"type": "ReLU"}, {"type": "HSigmoid", "bias": 1, "divisor": 2}]},
        {"act_cfg": [{"type": "LeakyReLU", "negative_slope": 0.2}, {"type": "Sigmoid"}]},
        {"return_weight": True},
    ],
    ids=["an older hard sigmoid", "another slope", "the gate alone"],
)
def test_what_no_se_of_mmpretrain_computes_is_refused(tmp_path, theirs):
    with pytest.raises(DialectError, match=r"^dialect 'mmpretrain': does not hold for these arguments, "):
        mmpretrain_block(tmp_path, **theirs)
