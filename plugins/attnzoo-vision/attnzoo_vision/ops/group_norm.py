"""Group norm that also takes a single value in each group."""

import torch
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """``nn.GroupNorm`` that gives its bias for a single value in each group of a single sample, where torch raises."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)
