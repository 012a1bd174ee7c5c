"""Linear Context Transform."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input
from attnzoo_vision.ops.pooling import global_mean


class LCT(nn.Module):
    """Scale each channel by a weight that is linear in its mean, normalised among the channels of its group.

    ``y_c = x_c * sigmoid(w_c (m_c - mean_g(m)) / sqrt(var_g(m) + eps) + b_c)``, ``m = mean_hw(x)``

    Args:
        channels: Channels of the input.
        groups: Number of groups of consecutive channels.
        eps: Added to the biased variance of a group.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``groups`` does not divide ``channels``, or ``channels`` is less than 1.

    Source:
        Ruan et al., "Linear Context Transform Block", AAAI 2020, arXiv:1909.03834. No code of the authors was found;
        the formula agrees with github.com/xmu-xiaoma666/External-Attention-pytorch, model/attention/LCTAttention.py.
        Deviations: the weights start at 0 and the biases at 1, so that all channels start alike; that port starts with
        weights 1 and biases 0.
    """

    def __init__(self, channels: int, *, groups: int = 16, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("LCT", 1, channels=channels)
        check_divides("LCT", "groups", groups, "channels", channels)
        self.groups = groups
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with every weight at sigmoid(1), whatever the input."""
        nn.init.zeros_(self.weight)
        nn.init.ones_(self.bias)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled by its weight in (0, 1)."""
        return x_nchw * self._weight(x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weights that :meth:`forward` multiplies with, ``(N, C, 1, 1)``."""
        return {"channel": self._weight(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        check_input("LCT", x_nchw, self.channels)
        # not F.group_norm, which refuses a single value in each group: one sample whose groups are single channels
        normal_nc = torch.group_norm(global_mean(x_nchw), self.groups, self.weight, self.bias, self.eps)
        return normal_nc.sigmoid()[:, :, None, None]
