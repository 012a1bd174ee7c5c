"""DIA cell: the recurrent unit that DIANet shares between the blocks of a stage."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_input, check_probability


class DIACell(nn.Module):
    """Turn channel means and the state of earlier blocks into channel weights and the next state.

    ``i, f, g, o = in(x) + hid(h)``; ``c' = sigmoid(f) c + sigmoid(i) tanh(g)``; ``h' = sigmoid(o) sigmoid(c')``. In
    the first layer ``in`` and ``hid`` are linear, ReLU, linear, with a fraction of the width between; above linear.

    Args:
        channels: Length of the input vector.
        hidden_channels: Length of the state; None for ``channels``.
        num_layers: Layers, each with a state of its own; a layer's input is the state of the one below.
        reduction: Divisor of the widths that gives the units between, rounded down.
        dropout: Probability of a zero between layers, in training.

    Shape:
        ``(N, C)`` and states ``(K, N, D)``, zero if left out, to the states ``(K, N, D)``; K is ``num_layers``.

    Raises:
        ValueError: ``num_layers`` is less than 1, or no unit is left between.

    Source:
        Huang et al., "DIANet: Dense-and-Implicit Attention Network", AAAI 2020, arXiv:1905.10671, eq. 3-6.
        Authors' code: github.com/gbup-group/DIANet @ 51685ca, models/cifar/dia_resnet.py, LSTMCell.
        Deviations: none in the numbers.
    """

    def __init__(
        self,
        channels: int,
        *,
        hidden_channels: int | None = None,
        num_layers: int = 1,
        reduction: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.channels = channels
        sizes = {"channels": channels, "hidden_channels": hidden_channels, "reduction": reduction}
        check_at_least("DIACell", 1, **sizes, num_layers=num_layers)
        check_probability("DIACell", dropout=dropout)
        self.hidden_channels = channels if hidden_channels is None else hidden_channels
        check_at_most("DIACell", "reduction", reduction, "channels", channels)
        check_at_most("DIACell", "reduction", reduction, "hidden_channels", self.hidden_channels)
        width = self.hidden_channels
        self.from_input = nn.ModuleList([_bottleneck(channels, 4 * width, reduction)])
        self.from_hidden = nn.ModuleList([_bottleneck(width, 4 * width, reduction)])
        for _ in range(num_layers - 1):
            self.from_input.append(nn.Linear(width, 4 * width))
            self.from_hidden.append(nn.Linear(width, 4 * width))
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(
        self, x_nc: Tensor, hidden_knd: Tensor | None = None, cell_knd: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the next hidden state, whose last layer are the weights in (0, 1), and the next cell state."""
        check_input("DIACell", x_nc, self.channels, "NC")
        if hidden_knd is None:
            hidden_knd = self._zeros(x_nc)
        if cell_knd is None:
            cell_knd = self._zeros(x_nc)
        hidden: list[Tensor] = []
        cell: list[Tensor] = []
        for layer, (from_input, from_hidden) in enumerate(zip(self.from_input, self.from_hidden, strict=True)):
            below_nc = self.dropout(hidden[-1]) if hidden else x_nc
            gates_n4d = from_input(below_nc) + from_hidden(hidden_knd[layer])
            enter_nd, keep_nd, new_nd, show_nd = gates_n4d.chunk(4, dim=1)
            kept_nd = torch.sigmoid(keep_nd) * cell_knd[layer]
            cell.append(torch.addcmul(kept_nd, torch.sigmoid(enter_nd), torch.tanh(new_nd)))
            hidden.append(torch.sigmoid(show_nd) * torch.sigmoid(cell[-1]))
        return torch.stack(hidden), torch.stack(cell)

    def _zeros(self, x_nc: Tensor) -> Tensor:
        return x_nc.new_zeros(len(self.from_input), x_nc.shape[0], self.hidden_channels)


def _bottleneck(in_features: int, out_features: int, reduction: int) -> nn.Sequential:
    between = in_features // reduction
    return nn.Sequential(nn.Linear(in_features, between), nn.ReLU(), nn.Linear(between, out_features))
