"""CBAM: a weight for each channel, then a weight for each pixel."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import affine
from attnzoo_vision.ops.activation import Activation, Gate, get_activation, get_gate
from attnzoo_vision.ops.axis_pooling import max_over_channels, max_over_pixels, mean_over
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_input, check_odd
from attnzoo_vision.ops.plane_conv import convolve_to_plane
from attnzoo_vision.ops.pooling import global_mean

Pool = Literal["avg", "max", "lp", "lse"]
_POOLS = ("avg", "max", "lp", "lse")


class CBAM(nn.Module):
    """Scale each channel by a weight from pooled pixels, then each pixel by a weight from pooled channels.

    ``z = x * sigmoid(sum_p mlp(pool_p(x)));  y = z * sigmoid(BN(k_max * max_c(z) + k_mean * mean_c(z)))``
    where ``mlp(s) = W2 relu(W1 s + b1) + b2`` is shared by the poolings and ``*`` with ``k`` is a convolution. Weights
    start as in the authors' network: kernels normal, biases 0, and BN's weight 0, so each pixel's weight is 1/2 then.

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels`` that gives the number of hidden units, rounded down.
        hidden_channels: Number of hidden units, instead of ``channels // reduction``.
        kernel_size: Odd side of the spatial kernels in pixels; None leaves the spatial part out.
        pools: Poolings over the pixels whose answers are added: mean, maximum, 2-norm, log-sum-exp.
        bias: Whether the two layers of ``mlp`` have biases.
        activation: Nonlinearity between the two layers of ``mlp``.
        gate: Function that makes a weight of a number, in both parts.
        momentum: Share of the new batch in the running statistics of the batch norm.
        spatial_norm: Whether the spatial part has its batch norm; many copies have none.
        spatial_bias: Whether the spatial convolution has a bias, ``k_max * max_c(z) + k_mean * mean_c(z) + b``.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: No hidden unit is left, an even ``kernel_size``, an unknown or no pooling, an unknown
            activation or gate.

    Source:
        Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, arXiv:1807.06521, eq. 1-3.
        Authors' code: github.com/Jongchan/attention-module @ 459efad, MODELS/cbam.py.
        Deviations: the two input channels of the spatial convolution are two parameters, since libraries order them
        differently. Their ResNet zeroes the batch norm's weight from outside of the module. The gradient of equal
        maxima goes to one of them in eager autograd on a CPU, as theirs does, and may be shared elsewhere, as timm's.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        hidden_channels: int | None = None,
        kernel_size: int | None = 7,
        pools: tuple[Pool, ...] = ("avg", "max"),
        bias: bool = True,
        activation: Activation = "relu",
        gate: Gate = "sigmoid",
        momentum: float = 0.01,
        spatial_norm: bool = True,
        spatial_bias: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("CBAM", 1, channels=channels, reduction=reduction, hidden_channels=hidden_channels)
        if hidden_channels is None:
            check_at_most("CBAM", "reduction", reduction, "channels", channels)
        hidden = channels // reduction if hidden_channels is None else hidden_channels
        _check(kernel_size, tuple(pools))
        if kernel_size is None and (spatial_bias or not spatial_norm):
            option = "spatial_bias=True" if spatial_bias else "spatial_norm=False"
            message = f"CBAM: {option} needs a spatial part, found kernel_size=None; leave it out"
            raise ValueError(message)
        self.pools = tuple(pools)
        self.activation = get_activation("CBAM", activation)
        self.gate = get_gate("CBAM", gate)
        self.squeeze = nn.Linear(channels, hidden, bias=bias)
        self.excite = nn.Linear(hidden, channels, bias=bias)
        self.kernel_size = kernel_size
        if kernel_size is not None:
            self.kernel_max = nn.Parameter(torch.empty(1, 1, kernel_size, kernel_size))
            self.kernel_mean = nn.Parameter(torch.empty(1, 1, kernel_size, kernel_size))
            self.spatial_bias = nn.Parameter(torch.empty(1)) if spatial_bias else None
            self.norm = BatchNorm2d(1, momentum=momentum) if spatial_norm else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as the authors' network does: kernels by the number of outputs, zero in the norm."""
        for layer in (self.squeeze, self.excite):
            layer.reset_parameters()
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if self.kernel_size is None:
            return
        for kernel_11kk in (self.kernel_max, self.kernel_mean):
            nn.init.kaiming_normal_(kernel_11kk, mode="fan_out", nonlinearity="relu")
        if self.spatial_bias is not None:
            nn.init.zeros_(self.spatial_bias)
        if self.norm is not None:
            self.norm.reset_parameters()
            nn.init.zeros_(self.norm.weight)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, ``(N, C, 1, 1)``, and, if there is a spatial part, ``spatial``, ``(N, 1, H, W)``."""
        channel_nc11 = self._channel_weight(x_nchw)
        if self.kernel_size is None:
            return {"channel": channel_nc11}
        return {"channel": channel_nc11, "spatial": self._spatial_weight(x_nchw * channel_nc11)}

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel and then each pixel scaled by its weight."""
        scaled_nchw = x_nchw * self._channel_weight(x_nchw)
        if self.kernel_size is None:
            return scaled_nchw
        weight_n1hw = self._spatial_weight(scaled_nchw)
        if torch.is_grad_enabled():
            return scaled_nchw * weight_n1hw
        return scaled_nchw.mul_(weight_n1hw)

    def _channel_weight(self, x_nchw: Tensor) -> Tensor:
        check_input("CBAM", x_nchw, self.channels)
        pooled_pnc = torch.stack([_pool(x_nchw, kind) for kind in self.pools])
        hidden_nr = self.activation(self.squeeze(pooled_pnc)).sum(0)
        # the second layer is linear, so the poolings are added before it, and its bias counts once for each
        weight_cr, bias_c = affine(self.excite)
        logits_nc = F.linear(hidden_nr, weight_cr)
        if bias_c is not None:
            logits_nc = logits_nc + len(self.pools) * bias_c
        return self.gate(logits_nc)[:, :, None, None]

    def _spatial_weight(self, x_nchw: Tensor) -> Tensor:
        maps_n2hw = torch.cat([max_over_channels(x_nchw), mean_over(x_nchw, 1, keepdim=True)], dim=1)
        kernels_12kk = torch.cat([self.kernel_max, self.kernel_mean], dim=1)
        logits_n1hw = convolve_to_plane(maps_n2hw, kernels_12kk)
        if self.spatial_bias is not None:
            logits_n1hw = logits_n1hw + self.spatial_bias
        return self.gate(logits_n1hw if self.norm is None else self.norm(logits_n1hw))


def _pool(x_nchw: Tensor, kind: Pool) -> Tensor:
    if kind == "avg":
        return global_mean(x_nchw)
    if kind == "max":
        return max_over_pixels(x_nchw)
    if kind == "lp":
        norm_nc: Tensor = torch.linalg.vector_norm(x_nchw, dim=(2, 3))
        return norm_nc
    return x_nchw.logsumexp((2, 3))


def _check(kernel_size: int | None, pools: tuple[str, ...]) -> None:
    check_odd("CBAM", kernel_size=kernel_size)
    if not pools or any(pool not in _POOLS for pool in pools):
        known = ", ".join(map(repr, _POOLS))
        message = f"CBAM: pools={list(pools)} are not all known, or none; use one or more of {known}"
        raise ValueError(message)
