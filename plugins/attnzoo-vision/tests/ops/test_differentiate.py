"""Functions with a gradient of their own: it can be differentiated again, and is the same when it is to be."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import attnzoo
from attnzoo_vision.mixed.simam import SimAM
from attnzoo_vision.ops import bilinear, query_blocks
from attnzoo_vision.ops.bilinear import sum_rows
from attnzoo_vision.ops.contextual import aggregate_locally
from attnzoo_vision.ops.frames import filter_frames
from attnzoo_vision.ops.query_blocks import attend_by_blocks
from attnzoo_vision.ops.shuffled_gates import shuffled_gates
from attnzoo_vision.ops.window_filters import apply_filters, merge_windows

# functions of tensors, with the shapes of these
FUNCTIONS = {
    "rows": (lambda table, weight: sum_rows(table, torch.tensor([[0, 3, 2], [1, 1, 4]]), weight), ((5, 3), (2, 3))),
    "local sums": (lambda v, w: aggregate_locally(v, w, 3, 1), ((1, 4, 2, 3), (1, 18, 2, 3))),
    "windows": (merge_windows, ((1, 2, 3, 3, 3, 3, 2, 3),)),
    "frames": (
        lambda x, *taps: filter_frames(x, taps),
        ((2, 3, 2, 2, 1), (2, 1, 2, 1, 1), (2, 3, 2, 1, 1), (2, 1, 2, 1, 1)),
    ),
    "filters": (lambda v, f: apply_filters(v, f, [0, 1, 3]), ((1, 2, 3, 8), (1, 2, 3, 5))),
    "gates": (lambda x, *affine: shuffled_gates(x, affine, 1, 1e-5), ((1, 8, 2, 2), (4,), (4,), (4,), (4,))),
    "query blocks": (
        lambda *inputs: attend_by_blocks(*inputs[:3], 0.5, *inputs[3:]),
        ((1, 3, 2), (1, 4, 2), (1, 4, 5), (1, 3, 2), (1, 3, 2)),
    ),
    "simam": (SimAM(e_lambda=0.1), ((1, 2, 3, 2),)),
}


def function_and_inputs(name: str):
    torch.manual_seed(0)
    function, shapes = FUNCTIONS[name]
    return function, [torch.randn(shape, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_functions_of_our_own_are_differentiated_whichever_inputs_are_trained(name):
    function, inputs = function_and_inputs(name)
    for trained in (range(len(inputs)), *((i,) for i in range(len(inputs)))):
        leaves = [t.clone().requires_grad_(i in trained) for i, t in enumerate(inputs)]
        assert torch.autograd.gradcheck(function, leaves)
        assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in ("simam", "windows")])
def test_an_input_that_depends_on_another_counts_once(name):
    function, (first, *others) = function_and_inputs(name)
    first = first.clone().requires_grad_()
    mixed = [t + first.sum() for t in others]
    y = function(first, *mixed)
    weight = torch.randn_like(y)
    plain, again = (
        torch.autograd.grad((y * weight).sum(), first, retain_graph=True, create_graph=again)[0]
        for again in (False, True)
    )
    torch.testing.assert_close(again, plain)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, in forward mode
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_batches_and_forward_ones_are_those_of_single_outputs(name):
    function, inputs = function_and_inputs(name)
    leaves = [t.requires_grad_() for t in inputs]
    y = function(*leaves)
    grads = torch.randn(3, *y.shape, dtype=y.dtype)
    together = torch.autograd.grad(y, leaves, grads, is_grads_batched=True, retain_graph=True)
    for index, grad in enumerate(grads):
        alone = torch.autograd.grad(y, leaves, grad, retain_graph=True)
        torch.testing.assert_close([t[index] for t in together], list(alone))
    if name != "rows":  # torch has no such derivative
        assert torch.autograd.gradcheck(function, leaves, check_forward_ad=True, check_backward_ad=False)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n != "gates"])  # these are for maps in one of two layouts
def test_gradients_do_not_depend_on_the_order_in_memory(name):
    function, inputs = function_and_inputs(name)
    plain = [t.clone().requires_grad_() for t in inputs]
    y = function(*plain)
    grad = torch.randn_like(y)
    expected = torch.autograd.grad(y, plain, grad)
    turned = [t.movedim(0, -1).contiguous().movedim(-1, 0).requires_grad_() for t in inputs]
    torch.testing.assert_close(torch.autograd.grad(function(*turned), turned, grad), expected)


# blocks at sizes where they take the functions of their own, with the limits that are lowered for that
SPECIAL = {
    "outlook-attention": ({"embed_dim": 4, "num_heads": 2}, (2, 14, 14, 4)),
    "outlook-attention#one": ({"embed_dim": 4, "num_heads": 4}, (2, 14, 14, 4)),
    "bot-mhsa": ({"channels": 8, "feature_size": 6, "num_heads": 2}, (2, 8, 6, 6)),
    "disentangled-non-local": ({"channels": 8}, (2, 8, 6, 6)),
    "dat-deform-attn": ({"channels": 16, "feature_size": 8, "num_heads": 4, "groups": 2}, (2, 16, 8, 8)),
    "stn": ({"channels": 64}, (2, 64, 28, 28)),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_forms_have_the_gradients_of_plain_ones(monkeypatch, name, layout):
    monkeypatch.setattr(query_blocks, "_FEW_WEIGHTS", 1)
    monkeypatch.setattr(bilinear, "_WIDE", 1)
    arguments, shape = SPECIAL[name]
    torch.manual_seed(0)
    block = attnzoo.create(name.partition("#")[0], **arguments).double().eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    leaves = {"x": x, **dict(block.named_parameters())}

    def summed(leaves):
        parameters = {k: v for k, v in leaves.items() if k != "x"}
        return torch.func.functional_call(block, parameters, (leaves["x"],)).square().sum()

    with sdpa_kernel(SDPBackend.MATH):
        plain = torch.func.grad(summed)({k: v.detach() for k, v in leaves.items()})
        for again in (False, True):
            ours = torch.autograd.grad(
                summed(leaves), list(leaves.values()), create_graph=again, materialize_grads=True
            )
            torch.testing.assert_close(dict(zip(leaves, ours, strict=True)), plain)
        second = torch.autograd.grad(sum(g.square().sum() for g in ours), x)[0]
        expected = torch.func.grad(
            lambda x: sum(g.square().sum() for g in torch.func.grad(summed)({**leaves, "x": x}).values())
        )
        torch.testing.assert_close(second, expected(x.detach()))
