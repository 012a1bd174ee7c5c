"""Run a module for its shapes and FLOPs alone: in eval mode, with fake tensors or real ones, leaving no trace on it."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.surgery.preserve import preserved

__all__ = ["dry_run"]


@contextmanager
def dry_run(module: nn.Module, faked: bool) -> Iterator[tuple[FlopCounterMode, FakeTensorMode | None]]:
    """Give the counter of FLOPs and, if ``faked``, the mode that makes fake tensors; ``module`` ends as it was.

    Inside, ``module`` is in eval mode and no gradients are kept; hooks that are added to it are taken away again.
    """
    with ExitStack() as stack:
        stack.enter_context(preserved(module))
        module.eval()
        stack.enter_context(torch.no_grad())
        mode = stack.enter_context(_fake_mode()) if faked else None
        yield stack.enter_context(_counted()), mode


@contextmanager
def _counted() -> Iterator[FlopCounterMode]:
    """Count FLOPs (twice the multiply-adds of matrix products and convolutions) of what runs inside.

    Attention is made of its matrix products here: the fused kernels of the CPU and the fast path of
    ``nn.MultiheadAttention`` would be counted as nothing.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _fake_mode() -> Iterator[FakeTensorMode]:
    """Give tensors shapes and no numbers; real parameters may take part. Failures are raised, not logged as well."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    silent = logger.disabled
    logger.disabled = True
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            yield mode
    finally:
        logger.disabled = silent
