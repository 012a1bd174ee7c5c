"""Adapters in the places of a block's layers, as LoRA sets them: every block applies and trains them."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import attnzoo
from attnzoo.testing import subjects_of

UNSEEN = {  # layers built without a bias that would see nothing of one, in evaluation
    # all keys, or all positions, get the same number for a query, and the softmax cancels it
    "sequence/bahdanau-decoder": ["score.vector"],
    "sequence/bahdanau-decoder#1": ["score.vector"],
    "sequence/bigbird-attention#1": ["key"],
    "sequence/gated-mil-attention": ["score"],
    "sequence/gated-mil-attention#1": ["score"],
    "sequence/grouped-query-attention#2": ["key"],
    "sequence/hard-attention#2": ["score.vector"],
    "sequence/luong-global#2": ["score_vector"],
    "sequence/luong-local-m#2": ["score_vector"],
    "sequence/luong-local-p#2": ["score_vector"],
    "sequence/multi-head-attention#2": ["key"],
    "sequence/slot-attention": ["query"],  # the softmax is over the slots
    "sequence/soft-attention#3": ["score.vector"],
    "sequence/t5-attention": ["key"],
    "sequence/t5-attention#1": ["key"],
    "sequence/talking-heads": ["key", "talk_before"],
    "vision/dat-deform-attn#2": ["contract"],
    "vision/external-attention": ["memory_key"],
    "vision/external-attention#1": ["memory_key"],
    "vision/external-attention-core": ["memory_key"],
    "vision/external-attention-core#1": ["memory_key"],
    "vision/polarized-parallel": ["channel_query", "spatial_value"],
    "vision/polarized-parallel#1": ["channel_query", "spatial_value"],
    "vision/polarized-sequential": ["channel_query", "spatial_value"],
    "vision/polarized-sequential#1": ["channel_query", "spatial_value"],
    # a group norm of single channels cancels it
    "vision/ela": ["conv"],
    # the window of the example is a single key
    "sequence/luong-local-m": ["score_matrix"],
    "sequence/luong-local-p": ["score_matrix"],
    # the ReLU behind gives zeros in the example
    "vision/bisenet-ffm#1": ["squeeze"],
    "vision/sk-block": ["squeeze"],
}
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


class Adapted(nn.Module):
    """A layer plus another of its kind, with a bias; what else it has is that of the first, its weight too."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base, self.added = base, with_bias(base)
        with torch.no_grad():
            self.added.weight.normal_(std=0.2)
            self.added.bias.normal_(std=0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.added(x)

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.base, name)


def with_bias(layer: nn.Module) -> nn.Module:
    """Return a copy of ``layer`` that has a bias, of zeros where it had none."""
    copied = copy.deepcopy(layer)
    if copied.bias is None:
        outputs = getattr(layer, "out_features", None) or layer.out_channels
        copied.bias = nn.Parameter(layer.weight.new_zeros(outputs))
    return copied


def replace(block: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(block.get_submodule(parent), own, layer)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("subject", subjects_of(attnzoo.default_registry()), ids=lambda s: s.id)
def test_adapted_layers_and_their_biases_count_and_learn(subject, training):
    block = subject.build().double().train(training)
    names = [name for name, module in block.named_modules() if type(module) in LAYERS]
    if not names:
        pytest.skip("the block has no linear layer and no convolution")
    expected = copy.deepcopy(block)
    for name in names:
        adapted = Adapted(block.get_submodule(name))
        replace(block, name, adapted)
        replace(expected, name, with_bias(expected.get_submodule(name)))
        with torch.no_grad():
            for own in ("weight", "bias"):
                getattr(expected.get_submodule(name), own).add_(getattr(adapted.added, own))
    inputs = subject.inputs(subject.sizes())
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    results = []
    for one in (block, expected):
        torch.manual_seed(2)
        outputs = [o for o in subject.call(one, inputs) if o.is_floating_point()]
        tracked = [o.square().sum() for o in outputs if o.requires_grad]
        if tracked:
            sum(tracked).backward()
        results.append(outputs)
    torch.testing.assert_close(*results, rtol=1e-7, atol=1e-9)
    for name in names:
        found = block.get_submodule(name).added.weight.grad
        wanted = expected.get_submodule(name).weight.grad
        assert (found is None) == (wanted is None), name
        if wanted is not None:
            bound = 1e-9 * (1 + wanted.abs().max().item())
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=bound, msg=lambda m, name=name: f"{name}: {m}")
        check_bias(block.get_submodule(name), expected.get_submodule(name).bias.grad, name)
        if not training and block.get_submodule(name).base.bias is None and name not in UNSEEN.get(subject.id, ""):
            assert expected.get_submodule(name).bias.grad.abs().max() > 1e-9, f"{name}: a bias has no part"


def check_bias(layer: Adapted, wanted: Tensor | None, name: str) -> None:
    """Raise AssertionError if the added bias has another gradient; where a softmax cancels it, none is a zero."""
    grads = [torch.zeros_like(layer.added.bias) if grad is None else grad for grad in (layer.added.bias.grad, wanted)]
    bound = 1e-9 * (1 + grads[1].abs().max().item())
    torch.testing.assert_close(*grads, rtol=1e-6, atol=bound, msg=lambda m: f"bias of {name}: {m}")


def biased(block: nn.Module) -> list[str]:
    """Return the names of the layers that have a bias."""
    return [name for name, module in block.named_modules() if type(module) in LAYERS and module.bias is not None]


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(
    "subject", [s for s in subjects_of(attnzoo.default_registry()) if biased(s.build())], ids=lambda s: s.id
)
def test_layers_may_lose_their_bias(subject, training):
    """Every layer without its bias does what it does with a bias of zeros."""
    block = subject.build().double().train(training)
    names = biased(block)
    with torch.no_grad():
        for name in names:
            block.get_submodule(name).bias.zero_()
    bare = copy.deepcopy(block)
    for name in names:
        bare.get_submodule(name).bias = None
    inputs = subject.inputs(subject.sizes())
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    results, gradients = [], []
    for one in (bare, block):
        torch.manual_seed(2)
        outputs = [o for o in subject.call(one, inputs) if o.is_floating_point()]
        tracked = [p for key, p in one.named_parameters() if key in dict(bare.named_parameters())]
        sums = [o.square().sum() for o in outputs if o.requires_grad]
        gradients.append(torch.autograd.grad(sum(sums), tracked, materialize_grads=True) if sums else ())
        results.append(outputs)
    torch.testing.assert_close(*results, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


PEFT = {  # blocks that join weights, and the layers that get adapters
    "vision/bot-mhsa": ({"feature_size": 4}, ["qkv"]),
    "vision/non-local": ({}, ["theta", "phi", "g", "out"]),
    "vision/dat-deform-attn": ({"num_heads": 2, "groups": 1, "feature_size": 4}, ["query", "key"]),
    "vision/eca": ({}, ["conv"]),
    "vision/double-attention": ({}, ["gather", "feature"]),
}


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("name", PEFT)
def test_adapters_of_peft_count_learn_and_merge(name, dora):
    peft = pytest.importorskip("peft", reason="PEFT, an optional peer, is not installed")
    arguments, targets = PEFT[name]
    torch.manual_seed(0)
    block = attnzoo.create(name, channels=16, **arguments).eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(2, 16, 4, 4)
    before = block(x)
    config = peft.LoraConfig(r=2, target_modules=targets, use_dora=dora, init_lora_weights=False)
    adapted = peft.get_peft_model(block, config).eval()
    y = adapted(x)
    assert not torch.allclose(y, before, atol=1e-4)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in adapted.parameters() if p.requires_grad)
    torch.testing.assert_close(adapted.merge_and_unload()(x), y, rtol=1e-5, atol=1e-5)


def test_a_pruned_layer_can_be_trained():
    torch.manual_seed(0)
    block = attnzoo.create("vision/bot-mhsa", channels=8, feature_size=4)
    prune.l1_unstructured(block.qkv, "weight", amount=0.5)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    x = torch.randn(2, 8, 4, 4)
    for _ in range(3):
        optimizer.zero_grad()
        block(x).square().sum().backward()
        optimizer.step()
    kept = block.qkv.weight_mask.bool()
    assert block.qkv.weight_orig.grad[kept].abs().min() > 0
    assert not block.qkv.weight_orig.grad[~kept].any()


def test_hooks_on_a_layer_fire():
    block = attnzoo.create("vision/dat-deform-attn", channels=8, num_heads=2, groups=1, feature_size=4)
    seen = []
    block.query.register_forward_hook(lambda *_: seen.append(1))
    block(torch.randn(2, 8, 4, 4))
    assert seen
