"""Ways to centre and scale queries and keys before their products."""

from torch import Tensor

#: Kind of whitening -> the axes of ``(N, L, C)`` that it takes the mean over, and whether it divides by the deviation.
WHITENINGS: dict[str, tuple[tuple[int, ...], bool]] = {
    "channel": ((1,), False),
    "channel-std": ((1,), True),
    "position": ((2,), False),
    "layer": ((1, 2), False),
    "layer-std": ((1, 2), True),
    "batch-layer": ((0, 1, 2), False),
    "batch-layer-std": ((0, 1, 2), True),
}


def whiten(x_nlc: Tensor, kind: str, eps: float) -> tuple[Tensor, Tensor]:
    """Return the whitened tokens and the mean that was subtracted; the variance is the unbiased one."""
    axes, scaled = WHITENINGS[kind]
    count = 1
    for axis in axes:
        count *= x_nlc.shape[axis]
    mean = x_nlc.sum(dim=axes, keepdim=True) / count
    centred_nlc = x_nlc - mean
    if scaled:
        variance = centred_nlc.square().sum(dim=axes, keepdim=True) / max(count - 1, 1)
        centred_nlc = centred_nlc / (variance + eps).sqrt()
    return centred_nlc, mean
