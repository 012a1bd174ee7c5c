"""Stochastic depth for residual branches."""

import torch
from torch import Tensor


def drop_path(y: Tensor, probability: float, training: bool) -> Tensor:
    """Drop the branch ``y`` of whole samples in training; the others grow so that the mean stays."""
    if probability == 0.0 or not training:
        return y
    keep = 1.0 - probability
    shape = (y.shape[0],) + (1,) * (y.dim() - 1)
    kept = torch.rand(shape, dtype=torch.float32, device=y.device) < keep
    return y * (kept.to(y.dtype) / keep if keep > 0.0 else kept.to(y.dtype))
