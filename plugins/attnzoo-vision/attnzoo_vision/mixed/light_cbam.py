"""Light CBAM: CBAM whose mean and maximum are averaged before the weights are computed, timm's variant."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.activation import Activation, get_activation
from attnzoo_vision.ops.axis_pooling import max_over_channels, max_over_pixels, mean_over
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_input, check_odd
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.pooling import global_mean


class LightCBAM(nn.Module):
    """Scale each channel by a weight from pooled pixels, then each pixel by one from pooled channels; one pooling each.

    ``z = x * sigmoid(W2 relu(W1 pool_hw(x)));  y = z * sigmoid(BN(k * pool_c(z)))`` with ``pool = (mean + max) / 2``,
    where ``*`` with ``k`` is a convolution.

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels`` that gives the number of hidden units, rounded down.
        hidden_channels: Number of hidden units, instead of ``channels // reduction``.
        kernel_size: Odd side of the spatial kernel in pixels.
        bias: Whether the two layers of the channel part have biases.
        activation: Nonlinearity between the two layers of the channel part.
        momentum: Share of the new batch in the running statistics of the batch norm.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: No hidden unit is left, ``kernel_size`` is even, or the activation is unknown.

    Source:
        Ross Wightman's variant of Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018,
        arXiv:1807.06521.
        Code: github.com/huggingface/pytorch-image-models, timm 1.0.31, timm/layers/cbam.py, LightCbamModule.
        Deviations: ``nn.Linear`` for 1x1 convolutions; the numbers are the same. The gradient of equal maxima goes to
        one of them in eager autograd on a CPU; theirs share it.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        hidden_channels: int | None = None,
        kernel_size: int = 7,
        bias: bool = False,
        activation: Activation = "relu",
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("LightCBAM", 1, channels=channels, reduction=reduction, hidden_channels=hidden_channels)
        if hidden_channels is None:
            check_at_most("LightCBAM", "reduction", reduction, "channels", channels)
        hidden = channels // reduction if hidden_channels is None else hidden_channels
        check_odd("LightCBAM", kernel_size=kernel_size)
        self.activation = get_activation("LightCBAM", activation)
        self.squeeze = nn.Linear(channels, hidden, bias=bias)
        self.excite = nn.Linear(hidden, channels, bias=bias)
        self.spatial = nn.Conv2d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = BatchNorm2d(1, momentum=momentum)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the weights ``channel``, ``(N, C, 1, 1)``, and ``spatial``, ``(N, 1, H, W)``."""
        channel_nc11 = self._channel_weight(x_nchw)
        return {"channel": channel_nc11, "spatial": self._spatial_weight(x_nchw * channel_nc11)}

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel and then each pixel scaled by its weight."""
        scaled_nchw = x_nchw * self._channel_weight(x_nchw)
        weight_n1hw = self._spatial_weight(scaled_nchw)
        if torch.is_grad_enabled():
            return scaled_nchw * weight_n1hw
        return scaled_nchw.mul_(weight_n1hw)

    def _channel_weight(self, x_nchw: Tensor) -> Tensor:
        check_input("LightCBAM", x_nchw, self.channels)
        hidden_nr = self.activation(self.squeeze(0.5 * (global_mean(x_nchw) + max_over_pixels(x_nchw))))
        return torch.sigmoid(self.excite(hidden_nr))[:, :, None, None]

    def _spatial_weight(self, x_nchw: Tensor) -> Tensor:
        pooled_n1hw = 0.5 * (mean_over(x_nchw, 1, keepdim=True) + max_over_channels(x_nchw))
        return torch.sigmoid(self.norm(convolve(self.spatial, pooled_n1hw)))
