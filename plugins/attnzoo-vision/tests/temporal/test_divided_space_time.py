import re

import pytest
import torch
import torch.nn.functional as F

import attnzoo
from attnzoo_vision.temporal.divided_space_time import DividedSpaceTime
from attnzoo_vision.temporal.joint_space_time import JointSpaceTime


def test_time_then_space_then_mlp():
    block = DividedSpaceTime(8, num_heads=2).double()
    torch.nn.init.normal_(block.time_project.weight)
    x, cls = torch.randn(2, 3, 5, 8).double(), torch.randn(2, 8).double()
    u = x.clone()
    for place in range(5):
        u[:, :, place] += block.time_project(block.time_attention(block.time_norm(x[:, :, place])))
    frames = [torch.cat([cls[:, None], u[:, t]], 1) for t in range(3)]
    branches = torch.stack([block.space_attention(block.space_norm(f)) for f in frames], 1)
    v, c = u + branches[:, :, 1:], cls + branches[:, :, 0].mean(1)
    y, y_cls = block(x, cls)
    torch.testing.assert_close(y, v + block.mlp(block.mlp_norm(v)))
    torch.testing.assert_close(y_cls, c + block.mlp(block.mlp_norm(c)))


def test_attention_along_time_starts_switched_off():
    block = DividedSpaceTime(8, num_heads=2)
    x = torch.randn(2, 3, 5, 8)
    assert torch.equal(block._attend_time(x), x)


def test_the_joint_form_attends_over_all_tokens():
    block = JointSpaceTime(8, num_heads=2).double()
    x = torch.randn(2, 6, 8).double()
    q, k, v = block.attend.qkv(block.attention_norm(x)).view(2, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
    weights = torch.softmax(q @ k.mT / 2, -1)
    y = x + block.attend.project((weights @ v).transpose(1, 2).reshape(2, 6, 8))
    torch.testing.assert_close(block(x), y + block.mlp(block.mlp_norm(y)))
    torch.testing.assert_close(block.attention(x)["attention"], weights)


def test_weights_and_elements_are_dropped_in_training():
    block = JointSpaceTime(8, num_heads=2, attention_dropout=0.3, dropout=0.2).double()
    x = torch.randn(2, 6, 8).double()
    q, k, v = block.attend.qkv(block.attention_norm(x)).view(2, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
    torch.manual_seed(0)
    weights = F.dropout(torch.softmax(q @ k.mT / 2, -1), 0.3)
    y = x + F.dropout(block.attend.project((weights @ v).transpose(1, 2).reshape(2, 6, 8)), 0.2)
    hidden = F.dropout(F.gelu(block.mlp.expand(block.mlp_norm(y))), 0.2)
    expected = y + F.dropout(block.mlp.reduce(hidden), 0.2)
    torch.manual_seed(0)
    torch.testing.assert_close(block(x), expected)


def test_both_attentions_of_the_divided_form_drop_in_training_alone():
    x, cls = torch.randn(2, 3, 5, 8), torch.randn(2, 8)
    for option in ("attention_dropout", "dropout"):
        block = DividedSpaceTime(8, num_heads=2, **{option: 0.5})
        plain = DividedSpaceTime(8, num_heads=2)
        plain.load_state_dict(block.state_dict())
        for part in ("time_attention", "space_attention"):
            dropped, kept = getattr(block, part), getattr(plain, part)
            assert not torch.equal(dropped(x[0]), kept(x[0]))
        for ours, theirs in zip(block.eval()(x, cls), plain.eval()(x, cls), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "dialect", "form"),
    [
        ("divided-space-time", "facebookresearch", "divided_space_time"),
        ("divided-space-time", "timesformer", "divided_space_time"),
        ("joint-space-time", "facebookresearch", "joint_space_time"),
    ],
)
def test_the_dropouts_of_the_authors_arrive(tmp_path, name, dialect, form):
    attnzoo.export(attnzoo.create(name, embed_dim=8, num_heads=2), tmp_path / "a.safetensors", dialect)
    theirs = {"dim": 8, "num_heads": 2, "qkv_bias": True, "drop": 0.1, "attn_drop": 0.2, "attention_type": form}
    block = attnzoo.load_foreign(tmp_path / "a.safetensors", name, dialect, **theirs)
    attentions = [m for m in block.modules() if hasattr(m, "attention_dropout")]
    assert [m.attention_dropout for m in attentions] == [0.2] * (2 if name.startswith("divided") else 1)
    assert {m.p for m in block.modules() if isinstance(m, torch.nn.Dropout)} == {0.1}


def test_either_output_may_be_written_over():
    block = DividedSpaceTime(8, num_heads=2)
    x, cls = torch.randn(2, 3, 5, 8, requires_grad=True), torch.randn(2, 8)
    expected = block(x, cls)[0].detach()
    y, y_cls = block(x, cls)
    y_cls.zero_()
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    y.square().sum().backward()
    y, y_cls = block(x, cls)
    y.zero_()
    y_cls.square().sum().backward()


@pytest.mark.parametrize("block", [DividedSpaceTime, JointSpaceTime])
@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [("drop_path", 1.0, "[0, 1)"), ("attention_dropout", 1.0, "[0, 1)"), ("dropout", 1.5, "[0, 1]")],
)
def test_a_number_that_is_no_probability_is_refused(block, argument, value, allowed):
    message = f"{block.__name__}: {argument}={value} is not in {allowed}; use 0 to drop nothing"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        block(8, num_heads=2, **{argument: value})


@pytest.mark.parametrize("block", [DividedSpaceTime, JointSpaceTime])
def test_an_unknown_activation_of_the_mlp_is_refused(block):
    message = f"^{block.__name__}: activation='foo' is not known; use one of 'relu', 'relu6', .*'identity'$"
    with pytest.raises(ValueError, match=message):
        block(8, num_heads=2, activation="foo")


@pytest.mark.parametrize("block", [DividedSpaceTime, JointSpaceTime])
def test_an_mlp_without_hidden_units_is_refused(block):
    message = f"^{block.__name__}: mlp_ratio=0.1 leaves no hidden unit of embed_dim=8; use a larger one$"
    with pytest.raises(ValueError, match=message):
        block(8, num_heads=2, mlp_ratio=0.1)


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(
        ValueError, match=r"^DividedSpaceTime: num_heads=3 does not divide embed_dim=8; use num_heads=2 or 4$"
    ):
        DividedSpaceTime(8, num_heads=3)
