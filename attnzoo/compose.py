"""Modules that specs compose blocks with: chain (``nn.Sequential``), sum and residual."""

import torch
from torch import Tensor, nn

__all__ = ["Residual", "Sum"]


class Sum(nn.ModuleList):
    """Feed one input to several modules and add their outputs."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the modules' outputs."""
        outputs = [module(x) for module in self]
        return outputs[0] if len(outputs) == 1 else torch.stack(outputs).sum(0)


class Residual(nn.Module):
    """Add a module's output to its input: ``x + inner(x)``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x + inner(x)``."""
        out: Tensor = x + self.inner(x)
        return out
