"""Effective Squeeze-Excitation (eSE)."""

from torch import Tensor, nn

from attnzoo_vision.ops.activation import Gate, get_gate
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.pooling import global_mean, mean_max


class EffectiveSE(nn.Module):
    """Scale each channel by a weight computed from the means of all channels, without a bottleneck.

    ``y = x * gate(W mean_hw(x) + b)``, W square

    Args:
        channels: Channels of the input.
        gate: What follows the layer; ``hard_sigmoid`` has the slope 1/6, ``hard_sigmoid_0.2`` the slope 1/5.
        max_pool: Squeeze into the mean of means and maxima instead of the means.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: A gate is not known, or ``channels`` is less than 1.

    Source:
        Lee and Park, "CenterMask: Real-Time Anchor-Free Instance Segmentation", CVPR 2020, arXiv:1911.06667, eq. 1-2.
        Authors' code: github.com/youngwanLEE/vovnet-detectron2 @ 48e2195, vovnet/vovnet.py, ``eSEModule``.
        Deviations: the paper writes a sigmoid, the authors' code has relu6(x + 3) / 6, which is the default here.
        ``nn.Linear`` for their 1x1 convolution, drawn as their ``VoVNet`` draws it. ``max_pool`` is an option of timm.
    """

    def __init__(self, channels: int, *, gate: Gate = "hard_sigmoid", max_pool: bool = False) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("EffectiveSE", 1, channels=channels)
        self.max_pool = max_pool
        self.gate = get_gate("EffectiveSE", gate)
        self.mix = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as the authors' network does: normal by fan-in; the bias as PyTorch's."""
        self.mix.reset_parameters()
        nn.init.kaiming_normal_(self.mix.weight, nonlinearity="relu")

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled by its weight."""
        return x_nchw * self._weight(x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weights that :meth:`forward` multiplies with, ``(N, C, 1, 1)``."""
        return {"channel": self._weight(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        check_input("EffectiveSE", x_nchw, self.channels)
        pooled_nc = mean_max(x_nchw) if self.max_pool else global_mean(x_nchw)
        return self.gate(self.mix(pooled_nc))[:, :, None, None]
