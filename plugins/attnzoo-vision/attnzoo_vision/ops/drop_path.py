"""Stochastic depth."""

from torch import Tensor


def drop_path(x: Tensor, probability: float, training: bool) -> Tensor:
    """Return ``x`` with each sample (first axis) zeroed with ``probability`` and the others scaled to keep the mean.

    Outside of training ``x`` itself is returned.
    """
    if not training or probability == 0:
        return x
    keep = 1.0 - probability
    mask = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(keep).div_(keep)
    return x * mask
