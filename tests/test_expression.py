import pytest
import torch

from attnzoo.errors import ExpressionError
from attnzoo.expression import evaluate, names_in, parse_signature


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("max(channels // 16, 8)", 8),
        ("channels * 2 + 1", 129),
        ("-(-channels // 48)", 2),
        ("'a' if mode == 'x' else 'b'", "b"),
        ("mode is None or mode in ['y', 'z']", True),
        ("not (1 < 2 <= 2)", False),
        ("down['args'][0]['args'][1]", 7),
        ("[1, 2, 3][1:]", [2, 3]),
        ("ceil(log2(channels) / 2)", 3),
        ("[activation('torch.nn.Hardswish'), activation('swish'), activation(None)]", ["hard_swish", "silu", None]),
        ("activation(made)", "gelu"),
        ("[unpair(3), unpair([3, 3]), unpair([3, 1]), unpair([])]", [3, 3, [3, 1], []]),
        ("token_norm('torch.nn.RMSNorm') or 'layer'", "rms"),
        ("token_norm(None) or 'layer'", "layer"),
    ],
)
def test_expressions_compute(text, value):
    made = {"call": "torch.nn.GELU", "args": []}
    names = {"channels": 64, "mode": "y", "down": {"args": [{"args": [1, 7]}]}, "made": made}
    assert evaluate(text, names) == value


def test_tensor_functions_compute():
    x = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(evaluate("rearrange(x, 'n c -> c n') + 1", {"x": x}), x.T + 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x.__class__", "Attribute is not part of expressions"),
        ("__import__('os')", "no function '__import__'"),
        ("(lambda: 1)()", "Call is not part of expressions"),
        ("[i for i in x]", "ListComp is not part of expressions"),
        ("9 ** 999999", "exponent 999999 is beyond 64"),
        ("'a' * 10000000", "only numbers and tensors can be multiplied"),
        ("chanels", "no name 'chanels'; did you mean 'channels'?"),
        ("1 +", "not readable"),
        ("1 // 0", "ZeroDivisionError"),
        ("min(*x)", "Starred is not part of expressions"),
    ],
)
def test_everything_else_is_refused(text, reason):
    with pytest.raises(ExpressionError) as caught:
        evaluate(text, {"x": [1], "channels": 1})
    assert reason in str(caught.value)


def test_names_leave_out_functions():
    assert names_in("max(a, b) + c") == {"a", "b", "c"}


def test_a_signature_has_names_and_literal_defaults():
    signature = parse_signature("channels, reduction=16, *, bias=True, size=(1, 2)")
    assert list(signature) == ["channels", "reduction", "bias", "size"]
    assert (signature["reduction"], signature["bias"], signature["size"]) == (16, True, (1, 2))


@pytest.mark.parametrize("text", ["a=open('x')", "a b", "a): pass\ndef g("])
def test_a_signature_that_is_none_is_refused(text):
    with pytest.raises(ExpressionError):
        parse_signature(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("((((9**64)**64)**64)**64)", "a base of 12985 bits is beyond 256"),
        ("'%1000000000d' % 5", "only numbers and tensors have a remainder"),
        ("b'x'", "Constant is not part of expressions"),
        ("1j", "Constant is not part of expressions"),
    ],
)
def test_expressions_cannot_grow_without_bound(text, reason):
    with pytest.raises(ExpressionError) as caught:
        evaluate(text, {})
    assert str(caught.value) == f"expression {text!r}: {reason}"


@pytest.mark.parametrize("text", ["*a", "**k", "a, *, b, **k", "a, a"])
def test_a_signature_with_open_or_repeated_parameters_is_refused(text):
    with pytest.raises(ExpressionError, match="expected every parameter once by its name"):
        parse_signature(text)
