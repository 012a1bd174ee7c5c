"""Efficient Channel Attention."""

from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.activation import Activation, Gate, get_activation, get_gate
from attnzoo_vision.ops.channel_window import adaptive_kernel_size, filter_by
from attnzoo_vision.ops.checks import check_at_least, check_input, check_odd
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.pooling import global_mean


class ECA(nn.Module):
    """Scale each channel by a weight computed from the means of the channels next to it.

    ``y = x * gate(conv_k(mean_hw(x)) + b)``, one filter of k taps along the channel axis, zeros beyond its ends; there
    is no b by default

    Args:
        channels: Channels of the input. It sets the default of ``kernel_size`` alone; the block takes any number.
        kernel_size: Number of neighbouring channels that a weight depends on, odd. By default ``|log2(C) + 1| / 2``
            cut off to an integer and, when even, one more: 3 for 8 to 64 channels, 5 for 128 to 1024, 7 for 2048.
        hidden_channels: Number of hidden signals. Given, each mean is first mapped to as many hidden units, followed by
            ``activation``, and the filter reads them all; both layers have a bias.
        bias: Add one bias b to all logits; with ``hidden_channels`` there is always one.
        activation: What follows the hidden units; without ``hidden_channels`` it has no part.
        gate: What follows the filter.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any C, H and W from 1 on.

    Raises:
        ValueError: ``kernel_size`` is even, a number is less than 1, or an activation or gate is not known.

    Source:
        Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", CVPR 2020,
        arXiv:1910.03151, eq. 7 and 12. Authors' code: github.com/BangguWu/ECANet @ b332f6b, models/eca_module.py.
        Deviations: none in the numbers; the authors' code has no rule for ``kernel_size`` and defaults to 3.
        ``bias`` is of a port, xmu-xiaoma666/External-Attention-pytorch, and ``hidden_channels`` an option of timm
        (``use_mlp``); the paper has neither.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int | None = None,
        hidden_channels: int | None = None,
        bias: bool = False,
        activation: Activation = "relu",
        gate: Gate = "sigmoid",
    ) -> None:
        super().__init__()
        check_at_least("ECA", 1, channels=channels, hidden_channels=hidden_channels)
        taps = adaptive_kernel_size(channels) if kernel_size is None else kernel_size
        check_odd("ECA", kernel_size=taps)
        self.kernel_size = taps
        self.activation = get_activation("ECA", activation)
        self.gate = get_gate("ECA", gate)
        self.expand = None if hidden_channels is None else nn.Conv1d(1, hidden_channels, 1)
        has_bias = bias or hidden_channels is not None
        self.conv = nn.Conv1d(hidden_channels or 1, 1, taps, padding=taps // 2, bias=has_bias)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled by its weight in (0, 1)."""
        return x_nchw * self._weight(x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weights that :meth:`forward` multiplies with, ``(N, C, 1, 1)``."""
        return {"channel": self._weight(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        check_input("ECA", x_nchw)
        pooled_nc = global_mean(x_nchw)
        if self.expand is None:
            logit_nc = filter_by(self.conv, pooled_nc)
        else:
            hidden_nrc = self.activation(convolve(self.expand, pooled_nc.unsqueeze(1)))
            logit_nc = convolve(self.conv, hidden_nrc).squeeze(1)
        return self.gate(logit_nc)[:, :, None, None]
