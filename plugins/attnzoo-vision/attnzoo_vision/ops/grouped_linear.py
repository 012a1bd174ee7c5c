"""A linear layer whose inputs and outputs are cut into groups, like a grouped 1x1 convolution on one pixel."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupedLinear(nn.Module):
    """Map each group of inputs to its group of outputs.

    ``weight`` is ``(out_features, in_features // groups)`` and ``bias`` ``(out_features,)``, both initialised as
    PyTorch's convolutions are.
    """

    def __init__(self, in_features: int, out_features: int, *, groups: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(out_features, in_features // groups))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights and the bias uniformly from plus or minus ``1 / sqrt(inputs of a group)``."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x_nc: Tensor) -> Tensor:
        """Return ``(N, out_features)`` for ``(N, in_features)``."""
        if self.groups == 1:
            return F.linear(x_nc, self.weight, self.bias)
        x_gnd = x_nc.unflatten(1, (self.groups, -1)).transpose(0, 1)
        weight_gdo = self.weight.unflatten(0, (self.groups, -1)).transpose(1, 2)
        y_nc = torch.bmm(x_gnd, weight_gdo).transpose(0, 1).flatten(1)
        return y_nc if self.bias is None else y_nc + self.bias
