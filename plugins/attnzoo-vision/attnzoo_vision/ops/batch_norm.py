"""Batch norm that can train on a single value a channel."""

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm1d(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` that takes the running statistics for a batch of one value a channel, where torch raises."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input."""
        if self.training and input.numel() == input.shape[1]:
            return _with_running_statistics(self, input)
        return super().forward(input)


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` that takes the running statistics for a batch of one value a channel, where torch raises."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input."""
        if self.training and input.numel() == input.shape[1]:
            return _with_running_statistics(self, input)
        return super().forward(input)


def _with_running_statistics(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
