"""No block leaves convolutions and windows to a compiler for a CPU, which makes them slow in training.

One convolution in a graph turns all its maps to channels-last; the gradients of windows are gathered number by number.
"""

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd

import attnzoo
from attnzoo.testing import subjects_of

pytestmark = [
    pytest.mark.slow,
    # of torch, about its own tracing of functions with a gradient of their own
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
SLOW = ("aten.convolution", "aten.avg_pool2d", "aten.max_pool2d_with_indices")


@pytest.mark.parametrize("subject", subjects_of(attnzoo.default_registry(), plugin="vision"), ids=lambda s: s.id)
def test_no_convolution_or_window_is_left_to_the_compiler(subject):
    left = []

    def note(graph, _inputs):
        left.extend(n.name for n in graph.graph.nodes if str(n.target).startswith(SLOW))
        return graph.forward

    torch._dynamo.reset()
    backend = aot_autograd(fw_compiler=note, bw_compiler=lambda graph, _inputs: graph.forward)
    block = subject.build().train()
    inputs = subject.inputs(subject.sizes(h=16, w=16))
    torch.compile(block, backend=backend)(**{k: v.requires_grad_(v.is_floating_point()) for k, v in inputs.items()})
    assert not left
