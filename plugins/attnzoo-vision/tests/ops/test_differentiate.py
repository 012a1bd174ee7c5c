"""Functions with a gradient of their own: it can be differentiated again, and is the same when it is to be."""

import pytest
import torch

from attnzoo_vision.mixed.simam import SimAM
from attnzoo_vision.ops.bilinear import sum_rows
from attnzoo_vision.ops.contextual import aggregate_locally
from attnzoo_vision.ops.query_blocks import attend_by_blocks
from attnzoo_vision.ops.shuffled_gates import shuffled_gates
from attnzoo_vision.ops.window_filters import apply_filters

# functions of tensors, with the shapes of these
FUNCTIONS = {
    "rows": (lambda table, weight: sum_rows(table, torch.tensor([[0, 3, 2], [1, 1, 4]]), weight), ((5, 3), (2, 3))),
    "local sums": (lambda v, w: aggregate_locally(v, w, 3, 1), ((1, 4, 2, 3), (1, 18, 2, 3))),
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


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n != "simam"])
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
