"""Norms of their own mode, with hooks, or with something else in their place: every block calls them then."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import attnzoo
from attnzoo.testing import subjects_of

NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


class Called(nn.Module):
    """A norm of which a block can see nothing but the weight, the attention of NAM, so that it has to call it."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    @property
    def weight(self) -> Tensor | None:
        return self.norm.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class BatchNormReLU(nn.BatchNorm2d):
    """A batch norm that does more, as some libraries' do."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


class TwiceGroupNorm(nn.GroupNorm):
    """A group norm that does more."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def norms_of(block: nn.Module, kinds: tuple[type, ...] = (_BatchNorm,)) -> dict[str, nn.Module]:
    return {name: module for name, module in block.named_modules() if isinstance(module, kinds)}


def stirred(subject) -> nn.Module:
    torch.manual_seed(0)
    block = subject.build().double()
    for norm in norms_of(block, NORMS).values():
        for tensor in (norm.weight, getattr(norm, "bias", None), getattr(norm, "running_mean", None)):
            if tensor is not None:
                tensor.data.normal_()
        if isinstance(norm, _BatchNorm):
            norm.running_var.uniform_(0.5, 2)
    return block


def outputs_of(subject, block: nn.Module, layout: torch.memory_format = torch.contiguous_format) -> list[Tensor]:
    inputs = subject.inputs(subject.sizes())
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    inputs = {k: v.contiguous(memory_format=layout) if v.dim() == 4 else v for k, v in inputs.items()}
    torch.manual_seed(1)
    return [output for output in subject.call(block, inputs) if output.is_floating_point()]


def with_norms(*kinds: type) -> list:
    subjects = subjects_of(attnzoo.default_registry())
    return [pytest.param(s, id=s.id) for s in subjects if norms_of(s.build(), kinds)]


@pytest.mark.parametrize("grad", [False, True], ids=["no-grad", "grad"])
@pytest.mark.parametrize(
    ("block_trains", "norms_train"), [(False, False), (False, True), (True, False)], ids=["frozen", "adapted", "fixed"]
)
@pytest.mark.parametrize("subject", with_norms(_BatchNorm))
def test_norms_have_a_mode_of_their_own(subject, block_trains, norms_train, grad):
    block = stirred(subject).train(block_trains)
    called = copy.deepcopy(block)
    for one in (block, called):
        for norm in norms_of(one).values():
            norm.train(norms_train)
    for name, norm in norms_of(called).items():
        called.set_submodule(name, Called(norm).train(norms_train))
    with torch.set_grad_enabled(grad):
        ours, theirs = outputs_of(subject, block), outputs_of(subject, called)
    torch.testing.assert_close(ours, theirs)
    for mine, other in zip(norms_of(block).values(), norms_of(called).values(), strict=True):
        torch.testing.assert_close(mine.running_mean, other.running_mean)
        torch.testing.assert_close(mine.running_var, other.running_var)


@pytest.mark.parametrize("subject", with_norms(_BatchNorm))
def test_norms_that_do_more_are_called(subject):
    block = stirred(subject).eval()
    for name, norm in norms_of(block).items():
        if isinstance(norm, nn.BatchNorm2d) and norm.affine:
            other = BatchNormReLU(norm.num_features).double().eval()
            other.load_state_dict(norm.state_dict())
            block.set_submodule(name, other)
    called = copy.deepcopy(block)
    for name, norm in norms_of(called).items():
        called.set_submodule(name, Called(norm).eval())
    with torch.no_grad():
        torch.testing.assert_close(outputs_of(subject, block), outputs_of(subject, called))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("subject", with_norms(nn.GroupNorm))
def test_group_norms_that_do_more_are_called(subject, layout):
    block = stirred(subject)
    for name, norm in norms_of(block, (nn.GroupNorm,)).items():
        other = TwiceGroupNorm(norm.num_groups, norm.num_channels, norm.eps).double()
        other.load_state_dict(norm.state_dict())
        block.set_submodule(name, other)
    called, doubled = copy.deepcopy(block), stirred(subject)
    for name, norm in norms_of(called, (nn.GroupNorm,)).items():
        called.set_submodule(name, Called(norm))
    for norm in norms_of(doubled, (nn.GroupNorm,)).values():
        norm.weight.data.mul_(2)
        norm.bias.data.mul_(2)
    expected = outputs_of(subject, doubled, layout)
    torch.testing.assert_close(outputs_of(subject, block, layout), expected)
    torch.testing.assert_close(outputs_of(subject, called, layout), expected)


@pytest.mark.parametrize("subject", with_norms(nn.GroupNorm))
def test_group_norms_can_be_left_out(subject):
    block = stirred(subject)
    for name in norms_of(block, (nn.GroupNorm,)):
        block.set_submodule(name, nn.Identity())
    assert all(y.isfinite().all() for y in outputs_of(subject, block))


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("subject", with_norms(*NORMS))
def test_hooks_on_norms_fire_and_what_they_keep_stays(subject, training):
    block, kept = stirred(subject).train(training), {}
    names = set(norms_of(block, NORMS))
    for name, norm in norms_of(block, NORMS).items():
        norm.register_forward_hook(lambda _norm, _inputs, y, name=name: kept.update({name: (y, y.clone())}))
    with torch.no_grad():
        outputs_of(subject, block)
    assert set(kept) == names
    for name, (y, as_seen) in kept.items():
        assert torch.equal(y, as_seen), f"what a hook on {name} keeps is written over"


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("subject", with_norms(*NORMS))
def test_every_other_hook_on_a_norm_fires_too(subject):
    def fired_by(register: str) -> set[str]:
        block, fired = stirred(subject), set()
        for name, norm in norms_of(block, NORMS).items():
            getattr(norm, register)(lambda *_, name=name: fired.add(name))
        sum(output.sum() for output in outputs_of(subject, block)).backward()
        return fired

    names = set(norms_of(subject.build(), NORMS))
    for register in ("register_forward_pre_hook", "register_full_backward_hook", "register_full_backward_pre_hook"):
        assert fired_by(register) == names, register
