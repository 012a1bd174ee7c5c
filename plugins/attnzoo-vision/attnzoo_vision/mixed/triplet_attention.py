"""Triplet attention: three gates, each over the plane that is left when one axis is pooled."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.axis_pooling import (
    max_over_channels,
    max_over_height,
    max_over_width,
    mean_over,
    mean_over_height,
    mean_over_width,
)
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_input, check_odd
from attnzoo_vision.ops.compiling import settled
from attnzoo_vision.ops.layout import channels_last_view
from attnzoo_vision.ops.plane_conv import call_to_plane


class TripletAttention(nn.Module):
    """Scale each element by the mean of three weights, for its place in the planes (C, W), (H, C) and (H, W).

    ``y = x * (g_cw + g_hc + g_hw) / 3`` with ``g_cw = sigmoid(BN(k * [max_h(x), mean_h(x)]))`` and so on, where ``*``
    with the kernel ``k`` is a convolution over the plane. Without ``spatial``, ``y = x * (g_cw + g_hc) / 2``. Weights
    start as in the authors' ResNets: kernels normal, and BN's weight 0 in the gate over (H, W), which is 1/2 then.

    Args:
        kernel_size: Odd side of the three kernels in pixels (or channels).
        spatial: Whether there is a gate over (H, W).
        momentum: Share of the new batch in the running statistics of the batch norms.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any C, H and W from 1 on.

    Raises:
        ValueError: ``kernel_size`` is not an odd number.

    Source:
        Misra et al., "Rotate to Attend: Convolutional Triplet Attention Module", WACV 2021, arXiv:2010.03045, eq. 2-3.
        Authors' code: github.com/landskape-ai/triplet-attention @ 2cf02fb, triplet_attention.py.
        Deviations: the gates are averaged before they scale the map, which needs no rotated copies of it. The gradient
        of equal maxima goes to one of them in eager autograd on a CPU, as theirs does, and may be shared elsewhere.
    """

    def __init__(self, *, kernel_size: int = 7, spatial: bool = True, momentum: float = 0.01) -> None:
        super().__init__()
        check_odd("TripletAttention", kernel_size=kernel_size)
        self.channel_width = _PlaneGate(kernel_size, momentum)
        self.height_channel = _PlaneGate(kernel_size, momentum)
        self.height_width = _PlaneGate(kernel_size, momentum) if spatial else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the kernels by the number of outputs, and let the gate over (H, W) start constant."""
        for gate in (self.channel_width, self.height_channel, self.height_width):
            if gate is not None:
                nn.init.kaiming_normal_(gate.conv.weight, mode="fan_out", nonlinearity="relu")
                gate.norm.reset_parameters()
        if self.height_width is not None:
            nn.init.zeros_(self.height_width.norm.weight)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel_width`` (N, C, 1, W), ``height_channel`` (N, C, H, 1) and ``height_width`` (N, 1, H, W)."""
        check_input("TripletAttention", x_nchw)
        gates = self._gates(x_nchw)
        maps = {"channel_width": gates[0].transpose(1, 2), "height_channel": gates[1].permute(0, 3, 2, 1)}
        return {**maps, "height_width": gates[2]} if len(gates) == 3 else maps

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each element scaled by the mean of its gates."""
        check_input("TripletAttention", x_nchw)
        share = 1 / (2 if self.height_width is None else 3)
        cw_n1cw, hc_n1hc, *rest = (gate * share for gate in self._gates(x_nchw))
        x_nhwc = channels_last_view(x_nchw)
        if x_nhwc is None:
            column, row = cw_n1cw.transpose(1, 2), hc_n1hc.permute(0, 3, 2, 1)
            return _scaled(x_nchw, column, row, rest)
        column, row = settled(cw_n1cw.transpose(2, 3)), hc_n1hc.transpose(1, 2)
        return _scaled(x_nhwc, column, row, [gate.permute(0, 2, 3, 1) for gate in rest]).permute(0, 3, 1, 2)

    def _gates(self, x_nchw: Tensor) -> list[Tensor]:
        """Return the gates over ``(C, W)``, ``(H, C)`` and, if there is one, ``(H, W)``, as planes ``(N, 1, ...)``."""
        gates = [
            self.channel_width(max_over_height(x_nchw), mean_over_height(x_nchw)),
            self.height_channel(max_over_width(x_nchw).transpose(1, 2), mean_over_width(x_nchw).transpose(1, 2)),
        ]
        if self.height_width is not None:
            gates.append(self.height_width(max_over_channels(x_nchw).squeeze(1), mean_over(x_nchw, 1)))
        return gates


class _PlaneGate(nn.Module):
    def __init__(self, kernel_size: int, momentum: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = BatchNorm2d(1, momentum=momentum)

    def forward(self, max_nab: Tensor, mean_nab: Tensor) -> Tensor:
        """Return the weights of a plane, ``(N, 1, A, B)``, from its maxima and means."""
        pooled_n2ab = torch.stack([max_nab, mean_nab], dim=1)
        return torch.sigmoid(self.norm(call_to_plane(self.conv, pooled_n2ab)))


def _scaled(x: Tensor, column: Tensor, row: Tensor, rest: list[Tensor]) -> Tensor:
    """Return ``x`` times the sum of gates that broadcast to it."""
    weight = sum(rest, column) + row
    reusable = not torch.is_grad_enabled() and weight.dtype == x.dtype and weight.stride() == x.stride()
    return weight.mul_(x) if reusable else x * weight
