"""Every check of the conformance suite can fail: for each a block that is broken on purpose."""

import pytest
import torch
from torch import nn

from attnzoo.card import Card
from attnzoo.testing import CheckFailure, Subject, run_suite
from attnzoo.testing import attention_checks as a
from attnzoo.testing import build_checks as b
from attnzoo.testing import forward_checks as f
from attnzoo.testing import gradient_checks as g


class Good(nn.Module):
    """Scale the channels by a learned, position-free weight."""

    def __init__(self, channels: int, *, mode: str = "a"):
        super().__init__()
        if channels < 1:
            raise ValueError(f"Good: channels={channels}, expected at least 1")
        self.linear = nn.Linear(channels, channels)

    def gate(self, x_nchw):
        return torch.sigmoid(self.linear(x_nchw.mean(dim=(2, 3))))[:, :, None, None]

    def forward(self, x_nchw):
        return x_nchw * self.gate(x_nchw)

    def attention(self, x_nchw):
        return {"gate": self.gate(x_nchw)}


def subject(cls, **card):
    facts = {"shape": "n c h w -> n c h w", "axes": {"c": "channels"}, "maps": {}, "example": {"channels": 8}, **card}
    if hasattr(cls, "attention") and "maps" not in card:
        facts["maps"] = {"gate": "n c 1 1"}
    card = Card("x", cls.__name__, cls.__module__, "s", "channel", cls=cls, **facts)
    return Subject("local/x", card, cls, facts["example"])


def broken(**methods):
    return type("Broken", (Good,), methods)


def in_list(self, channels):
    nn.Module.__init__(self)
    self.layers = [nn.Linear(channels, channels)]


def dead(self, channels):
    Good.__init__(self, channels)
    self.unused = nn.Parameter(torch.ones(3))


def fixed_type(self, x_nchw):
    return torch.cat([x_nchw[:, :1], x_nchw[:, 1:] * torch.ones(1, dtype=torch.float64)], 1).double()


def in_place(self, x_nchw):
    return x_nchw.mul_(self.gate(x_nchw))


def in_place_when(mode):
    """Return a forward that writes to its input in one mode only: training, autograd, layout of the map."""

    def forward(self, x_nchw):
        last = x_nchw.is_contiguous(memory_format=torch.channels_last)
        gate_nc11 = self.gate(x_nchw)
        return x_nchw.mul_(gate_nc11) if (self.training, torch.is_grad_enabled(), last) == mode else x_nchw * gate_nc11

    return forward


def backward_crash(self, x_nchw):
    y_nchw = torch.exp(x_nchw * self.gate(x_nchw))
    y_nchw.add_(1)
    return y_nchw


def over_batch(self, x_nchw):
    return x_nchw * torch.softmax(self.linear(x_nchw.mean(dim=(2, 3))), dim=0)[:, :, None, None]


def square_only(self, x_nchw):
    return x_nchw @ torch.eye(x_nchw.shape[2], dtype=x_nchw.dtype) * self.gate(x_nchw)


def batch_two(self, x_nchw):
    x_nchw = x_nchw * self.gate(x_nchw)
    return x_nchw / x_nchw.std(dim=0, keepdim=True, correction=1)


def random(self, x_nchw):
    return x_nchw * self.gate(x_nchw) + torch.rand(())


def loses_layout(self, x_nchw):
    return (x_nchw * self.gate(x_nchw)).contiguous()


def branch_on_values(self, x_nchw):
    return x_nchw * self.gate(x_nchw) if x_nchw.sum() > 0 else -x_nchw * self.gate(x_nchw)


def reads_values(self, channels):
    Good.__init__(self, channels)
    self.size = int(self.linear.weight.sum().item())


def hidden_state(self, channels):
    Good.__init__(self, channels)
    self.offset = torch.rand(1)


def with_offset(self, x_nchw):
    return x_nchw * self.gate(x_nchw) + self.offset


def other_keys(self, channels):
    Good.__init__(self, channels)
    hidden_counter.append(0)
    setattr(self, f"layer{len(hidden_counter)}", nn.Linear(1, 1))


hidden_counter = []


def crashes_on_zero(self, channels):
    nn.Module.__init__(self)
    self.linear = nn.Linear(channels, 64 // channels)


BROKEN = [
    (
        g.gradients,
        broken(__init__=in_list, forward=lambda self, x: x * self.layers[0](x.mean((2, 3)))[..., None, None]),
    ),
    (g.gradients, broken(__init__=dead)),
    (g.gradients, broken(forward=backward_crash)),
    (f.input_unchanged, broken(forward=in_place)),
    (f.samples_do_not_mix, broken(forward=over_batch)),
    (f.shapes, broken(forward=square_only)),
    (f.shapes, broken(forward=lambda self, x: x[:, :, :1])),
    (f.batch_of_one, broken(forward=batch_two)),
    (f.float64, broken(forward=lambda self, x: (x * self.gate(x)).float())),
    (f.bfloat16, broken(forward=fixed_type)),
    (f.float16_autocast, broken(forward=lambda self, x: x * (1e6 * self.linear(x.mean((2, 3))))[..., None, None])),
    (f.deterministic, broken(forward=random)),
    (f.channels_last, broken(forward=loses_layout)),
    (a.maps, broken(attention=lambda self, x_nchw: {"other": x_nchw})),
    (a.maps, broken(attention=lambda self, x_nchw: {"gate": x_nchw})),
    (b.meta_device, broken(__init__=reads_values)),
    (b.save_and_load, broken(__init__=hidden_state, forward=with_offset)),
    (b.builds_from_yaml, broken(__init__=other_keys)),
    (b.wrong_arguments, broken(__init__=crashes_on_zero)),
]
for annotated in (in_list, dead, reads_values, hidden_state, other_keys, crashes_on_zero):
    annotated.__annotations__ = {"channels": int}


@pytest.mark.parametrize(("check", "cls"), BROKEN, ids=lambda v: getattr(v, "__name__", None))
def test_the_check_finds_the_broken_block(check, cls):
    with pytest.raises(CheckFailure) as caught:
        check(subject(cls))
    assert caught.value.mend


@pytest.mark.parametrize(
    ("mode", "how"),
    [
        ((True, True, False), ""),
        ((True, True, True), " with a channels_last map"),
        ((True, False, False), " under no_grad"),
        ((True, False, True), " under no_grad with a channels_last map"),
        ((False, True, False), " in evaluation"),
        ((False, True, True), " in evaluation with a channels_last map"),
        ((False, False, False), " in evaluation under no_grad"),
        ((False, False, True), " in evaluation under no_grad with a channels_last map"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_an_input_that_is_changed_in_one_mode_only_is_found(mode, how):
    with pytest.raises(CheckFailure) as caught:
        f.input_unchanged(subject(broken(forward=in_place_when(mode))))
    assert caught.value.found == f"forward changed its input 'x_nchw'{how}"


def idle(forward, exempt=()):
    """Return a block with a parameter ``shift``, of which the card exempts the parameters ``exempt``."""

    def init(self, channels: int):
        Good.__init__(self, channels)
        self.shift = nn.Parameter(torch.zeros(channels))

    reasons = {f"gradients of {name}": "it is there for this test" for name in exempt}
    return subject(broken(__init__=init, forward=forward), exempt=reasons)


def switched_off(self, x_nchw):
    return x_nchw * self.gate(x_nchw) + torch.relu(self.shift - 100)[:, None, None]


def cancelled(self, x_nchw):
    shifted_nchw = self.gate(x_nchw) * x_nchw + self.shift[:, None, None]
    return x_nchw * torch.softmax(shifted_nchw.flatten(2), dim=2).unflatten(2, x_nchw.shape[2:])


@pytest.mark.parametrize("forward", [switched_off, cancelled])
def test_a_parameter_without_effect_is_found_unless_the_card_says_why(forward):
    with pytest.raises(CheckFailure) as caught:
        g.gradients(idle(forward))
    assert caught.value.found == (
        "no output depends on parameter 'shift': the gradient is zero, or only rounding, in training and in evaluation"
    )
    assert caught.value.mend == (
        "use it in forward, or do not create it; if it has an effect for other arguments, give the card an example "
        "with them, or with more channels; if a softmax or norm cancels it, say so in the card: "
        "exempt: {gradients of shift: why}"
    )
    g.gradients(idle(forward, ["sh*"]))


def test_units_that_one_draw_switches_off_are_drawn_again():
    first = subject(Good).build().linear.bias[0].item()

    def forward(self, x_nchw):
        return x_nchw * (1 + self.gate(x_nchw) * (abs(self.linear.bias[0].item() - first) > 1e-6))

    g.gradients(subject(broken(forward=forward)))


def test_a_parameter_that_only_evaluation_uses_has_an_effect():
    g.gradients(idle(lambda self, x_nchw: Good.forward(self, x_nchw + (not self.training) * self.shift[:, None, None])))


@pytest.mark.parametrize("value", [0, 1])
def test_an_output_that_is_one_number_everywhere_is_found(value):
    with pytest.raises(CheckFailure) as caught:
        g.gradients(subject(broken(forward=lambda self, x_nchw: 0 * x_nchw * self.gate(x_nchw) + value)))
    assert caught.value.found == f"output is {value} everywhere, so the checks that compare numbers compare nothing"
    assert caught.value.mend.endswith("if none can, say why in the card: exempt: {gradients of output: why}")


def test_without_float64_a_gradient_of_zero_is_found_too():
    def forward(self, x_nchw):
        assert x_nchw.dtype is not torch.float64
        return switched_off(self, x_nchw)

    with pytest.raises(CheckFailure, match="no output depends on parameter 'shift'"):
        g.gradients(idle(forward))
    g.gradients(idle(forward, ["shift"]))


@pytest.mark.slow
@pytest.mark.parametrize("check", [b.exports, b.compiles])
def test_a_decision_on_values_is_found_by_tracing(check):
    with pytest.raises(CheckFailure):
        check(subject(broken(forward=branch_on_values)))


class Wrong(nn.Module):
    """Attend with a mask that is read the wrong way round."""

    def __init__(self, embed_dim: int, *, inverted: bool = True):
        super().__init__()
        self.proj, self.inverted = nn.Linear(embed_dim, embed_dim), inverted

    def forward(self, x_nlc, mask=None):
        logits = self.proj(x_nlc) @ x_nlc.transpose(1, 2)
        if mask is not None:
            logits = logits.masked_fill((mask if self.inverted else ~mask)[:, None], -1e4)
        return logits.softmax(-1) @ x_nlc


def masked(**arguments):
    shape, axes = "x: n l c, mask?: n l -> n l c", {"c": "embed_dim"}
    return subject(Wrong, shape=shape, axes=axes, example={"embed_dim": 8, **arguments})


def test_a_mask_read_the_wrong_way_round_is_found():
    with pytest.raises(CheckFailure, match="a masked key changes the output"):
        a.masks(masked())
    a.masks(masked(inverted=False))


def test_a_good_block_passes_every_check():
    failed = [o for o in run_suite([subject(Good)]) if o.status == "failed"]
    assert not failed


def test_an_exemption_is_reported_with_its_reason():
    outcomes = run_suite(
        [subject(broken(forward=random), exempt={"deterministic": "draws samples"})], [f.deterministic]
    )
    assert [(o.status, o.found) for o in outcomes] == [("exempt", "draws samples")]
