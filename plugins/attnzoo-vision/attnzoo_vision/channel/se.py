"""Squeeze-and-Excitation."""

from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.activation import Activation, Gate, get_activation, get_gate
from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.pooling import global_mean, mean_max


class SE(nn.Module):
    """Scale each channel by a weight computed from the means of all channels.

    ``y = x * gate(W2 act(W1 mean_hw(x) + b1) + b2)``

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels`` that gives the number of hidden units, rounded down, at least 1.
        hidden_channels: Number of hidden units; given, it takes the place of ``reduction``.
        bias: Give both layers a bias, as the authors' models have.
        activation: What follows the first layer.
        gate: What follows the second layer; ``hard_sigmoid`` has the slope 1/6, ``hard_sigmoid_0.2`` the slope 1/5.
        max_pool: Squeeze into the mean of means and maxima instead of the means.
        batch_norm: Normalise the hidden units before the activation.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: A number is less than 1, or an activation or gate is not known.

    Source:
        Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507, eq. 2-4.
        Authors' code: github.com/hujie-frank/SENet @ 0262d43, models/SE-ResNet-50.prototxt.
        Deviations: ``nn.Linear`` for their 1x1 convolutions; the numbers are the same. Fewer than ``reduction``
        channels have one hidden unit, where ``channels // reduction`` leaves none. The released files, made for
        evaluation, do not say how the layers were initialised; they are as PyTorch's. ``max_pool`` and ``batch_norm``
        are options of timm, not of the paper; a training batch of one sample, which has no variance, is normalised
        with the running statistics.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        hidden_channels: int | None = None,
        bias: bool = True,
        activation: Activation = "relu",
        gate: Gate = "sigmoid",
        max_pool: bool = False,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("SE", 1, channels=channels, reduction=reduction, hidden_channels=hidden_channels)
        hidden = max(1, channels // reduction) if hidden_channels is None else hidden_channels
        self.max_pool = max_pool
        self.activation = get_activation("SE", activation)
        self.gate = get_gate("SE", gate)
        self.squeeze = nn.Linear(channels, hidden, bias=bias)
        self.norm = BatchNorm1d(hidden) if batch_norm else nn.Identity()
        self.excite = nn.Linear(hidden, channels, bias=bias)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled by its weight."""
        return x_nchw * self._weight(x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weights that :meth:`forward` multiplies with, ``(N, C, 1, 1)``."""
        return {"channel": self._weight(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        check_input("SE", x_nchw, self.channels)
        pooled_nc = mean_max(x_nchw) if self.max_pool else global_mean(x_nchw)
        hidden_nr = self.activation(self.norm(self.squeeze(pooled_nc)))
        weight_nc: Tensor = self.gate(self.excite(hidden_nr))
        return weight_nc[:, :, None, None]
