"""Coordinate attention: channel weights for every row and for every column."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.activation import Activation, Gate, get_activation, get_gate
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.draw import by_outputs, draw_anew
from attnzoo_vision.ops.strips import join_strips, pool_strips, project_strip, scale_by_strips, strip_maps


class CoordinateAttention(nn.Module):
    """Scale each channel by a weight of its row and a weight of its column.

    ``h, w = split(hardswish(BN(W1 [mean_w(x), mean_h(x)])));  y = x * sigmoid(Wh h) * sigmoid(Ww w)``

    Weights start as in the authors' MobileNetV2: those of the three layers normal with the standard deviation
    ``sqrt(2 / outputs)``, biases 0.

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels`` that gives the number of hidden units, rounded down, at least 8.
        hidden_channels: Number of hidden units, instead of the rule of ``reduction``.
        bias: Whether the three layers have biases.
        norm: Whether there is a batch norm after the first layer.
        activation: What follows the first layer and its norm.
        gate: Function that makes a weight of a number.
        shortcut: Whether the input is added to the output.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: A number of channels or ``reduction`` is less than 1, or the activation or gate is unknown.

    Source:
        Hou et al., "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021, arXiv:2103.02907, eq. 4-8.
        Authors' code: github.com/houqb/CoordAttention @ 7619bea, coordatt.py and mbv2_ca.py.
        Deviations: ``nn.Linear`` for their 1x1 convolutions; the numbers are the same. ``norm``,
        ``activation`` and ``shortcut`` are options of timm's CoordAttn.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 32,
        hidden_channels: int | None = None,
        bias: bool = True,
        norm: bool = True,
        activation: Activation = "hard_swish",
        gate: Gate = "sigmoid",
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        sizes = {"channels": channels, "reduction": reduction, "hidden_channels": hidden_channels}
        check_at_least("CoordinateAttention", 1, **sizes)
        hidden = max(8, channels // reduction) if hidden_channels is None else hidden_channels
        self.activation = get_activation("CoordinateAttention", activation)
        self.gate = get_gate("CoordinateAttention", gate)
        self.shortcut = shortcut
        self.squeeze = nn.Linear(channels, hidden, bias=bias)
        self.norm = nn.BatchNorm1d(hidden) if norm else None
        self.height = nn.Linear(hidden, channels, bias=bias)
        self.width = nn.Linear(hidden, channels, bias=bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as the authors' network does: normal, by the number of outputs."""
        draw_anew(self, conv=by_outputs, linear=by_outputs, zero_biases=True)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the weights ``height``, ``(N, C, H, 1)``, and ``width``, ``(N, C, 1, W)``."""
        return strip_maps(*self._weights(x_nchw))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled by the weights of its row and column."""
        y_nchw = scale_by_strips(x_nchw, *self._weights(x_nchw))
        return y_nchw + x_nchw if self.shortcut else y_nchw

    def _weights(self, x_nchw: Tensor) -> tuple[Tensor, Tensor]:
        check_input("CoordinateAttention", x_nchw, self.channels)
        rows_nch, columns_ncw = pool_strips(x_nchw)
        hidden_nrl = project_strip(self.squeeze, join_strips(rows_nch, columns_ncw))
        if self.norm is not None:
            hidden_nrl = self.norm(hidden_nrl)
        lengths = [rows_nch.shape[2], columns_ncw.shape[2]]
        rows_nrh, columns_nrw = torch.split(self.activation(hidden_nrl), lengths, dim=2)
        return self.gate(project_strip(self.height, rows_nrh)), self.gate(project_strip(self.width, columns_nrw))
