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
    (f.dtypes, broken(forward=fixed_type)),
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
