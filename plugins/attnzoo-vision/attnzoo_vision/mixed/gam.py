"""GAM: a weight for each element from its pixel's channels, then one from its neighbourhood; nothing is pooled."""

import torch
from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_divides, check_input, check_odd
from attnzoo_vision.ops.convolution import convolve_by, convolve_through
from attnzoo_vision.ops.rectify import rectify


class GAM(nn.Module):
    """Scale each element by a weight from the channels of its pixel, then by one from all channels around it.

    ``z = x * sigmoid(W2 relu(W1 x + b1) + b2);  y = z * sigmoid(BN(k2 * relu(BN(k1 * z))))`` where ``W1`` and ``W2``
    act on the channels of each pixel and ``*`` with ``k1`` and ``k2`` is a convolution. With ``shuffle_groups`` G, the
    channel ``k G + g`` of ``z`` is scaled by the weight ``g C/G + k``, so that neighbours take theirs of other groups.

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels`` that gives the hidden channels of both parts, rounded down.
        kernel_size: Odd side of the two convolutions in pixels.
        channel_sigmoid: Whether the first weight goes through a sigmoid; many copies leave it out.
        groups: Groups of channels of the two convolutions, as in the paper's light form.
        shuffle_groups: Groups of channels between which the second weights are shuffled; 1 leaves them in order.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: No hidden channel is left, ``kernel_size`` is even, ``groups`` does not divide the channels and the
            hidden channels, or ``shuffle_groups`` the channels.

    Source:
        Liu et al., "Global Attention Mechanism: Retain Information to Enhance Channel-Spatial Interactions", 2021,
        arXiv:2112.05561, eq. 1-2. The authors published no code; form and names are checked against
        github.com/z1069614715/objectdetection_script @ 36181c8, cv-attention/GAM.py.
        Deviations: none in the numbers. Where the light form shuffles is taken from its copies, such as
        github.com/iscyy/yoloair @ ca55875.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        kernel_size: int = 7,
        channel_sigmoid: bool = True,
        groups: int = 1,
        shuffle_groups: int = 1,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("GAM", 1, channels=channels, reduction=reduction)
        check_at_most("GAM", "reduction", reduction, "channels", channels)
        hidden = channels // reduction
        check_odd("GAM", kernel_size=kernel_size)
        check_divides("GAM", "groups", groups, "channels", channels)
        check_divides("GAM", "groups", groups, "channels // reduction", hidden)
        check_divides("GAM", "shuffle_groups", shuffle_groups, "channels", channels)
        self.channel_sigmoid = channel_sigmoid
        self.shuffle_groups = shuffle_groups
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel_size, padding=kernel_size // 2, groups=groups),
            BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, kernel_size, padding=kernel_size // 2, groups=groups),
            BatchNorm2d(channels),
        )

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the weights ``channel`` and ``spatial``, both ``(N, C, H, W)``."""
        channel_nchw = self._channel_weight(x_nchw)
        return {"channel": channel_nchw, "spatial": self._spatial_weight(x_nchw * channel_nchw)}

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, scaled by both weights."""
        scaled_nchw = x_nchw * self._channel_weight(x_nchw)
        return scaled_nchw * self._spatial_weight(scaled_nchw)

    def _channel_weight(self, x_nchw: Tensor) -> Tensor:
        check_input("GAM", x_nchw, self.channels)
        hidden_nrhw = rectify(_at_each_pixel(self.squeeze, x_nchw))
        logits_nchw = _at_each_pixel(self.excite, hidden_nrhw)
        return torch.sigmoid(logits_nchw) if self.channel_sigmoid else logits_nchw

    def _spatial_weight(self, x_nchw: Tensor) -> Tensor:
        weight_nchw = torch.sigmoid(convolve_through(self.spatial, x_nchw))
        if self.shuffle_groups == 1:
            return weight_nchw
        return torch.unflatten(weight_nchw, 1, (self.shuffle_groups, -1)).transpose(1, 2).flatten(1, 2)


def _at_each_pixel(layer: nn.Linear, x_nchw: Tensor) -> Tensor:
    """Return ``layer`` applied to the channels of each pixel, as a 1x1 convolution, which needs no permuted copy."""
    weight_oc, bias_o = affine(layer)
    return convolve_by(x_nchw, weight_oc[:, :, None, None], bias_o)
