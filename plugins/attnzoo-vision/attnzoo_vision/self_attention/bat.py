"""Bilinear attentional transform block (BAT)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.activation import Activation, get_fresh_activation
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input, check_probability
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.layout import in_layout_of
from attnzoo_vision.ops.tokens import add_shortcut

_WIDE = 32  # rows of a block from which its small matrix is quick enough by itself


class BAT(nn.Module):
    """Mix the blocks of a grid over the map by a matrix from the left and one from the right, both made from the map.

    ``y = x + dropout(f(f(P f(x) Q)))``, where ``f`` is a 1x1 convolution with batch norm and activation, and ``P`` and
    ``Q``, one pair for each group of channels, act on the rows and columns of the grid of ``block_size`` blocks: linear
    in the maxima of a narrow map over each row or column of blocks, through a sigmoid, rows of P and columns of Q with
    sum one.

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels`` that gives the channels that are mixed (rounded down, at least ``groups``).
        hidden_channels: Channels that are mixed; replaces ``reduction``.
        block_size: Number of blocks along H and along W.
        groups: Groups of channels with matrices of their own.
        dropout: Probability of dropping a channel of the result, in training.
        activation: What follows each batch norm.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; H and W multiples of ``block_size``.

    Raises:
        ValueError: A size is below 1, ``groups`` does not divide the mixed channels, or ``block_size`` the map.

    Source:
        Chi et al., "Non-Local Neural Networks With Grouped Bilinear Attentional Transforms", CVPR 2020.
        Authors' code: github.com/BA-Transform/BAT-Image-Classification; compared with timm 1.0.31,
        timm/layers/non_local_attn.py. Deviations: none from timm; no matrix is made for each channel.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        hidden_channels: int | None = None,
        block_size: int = 7,
        groups: int = 2,
        dropout: float = 0.2,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("BAT", 1, channels=channels, reduction=reduction, hidden_channels=hidden_channels)
        check_at_least("BAT", 1, block_size=block_size, groups=groups)
        check_probability("BAT", dropout=dropout)
        hidden = max(1, channels // reduction // groups) * groups if hidden_channels is None else hidden_channels
        check_divides("BAT", "groups", groups, "hidden_channels", hidden)
        self.block_size, self.groups, self.dropout = block_size, groups, dropout
        self.activation = get_fresh_activation("BAT", activation)
        self.reduce = ConvNorm(channels, hidden)
        self.squeeze = ConvNorm(hidden, groups)
        self.rows = nn.Linear(groups * block_size, groups * block_size**2)
        self.columns = nn.Linear(groups * block_size, groups * block_size**2)
        self.mix = ConvNorm(hidden, hidden)
        self.expand = ConvNorm(hidden, channels)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` plus the mixed map."""
        check_input("BAT", x_nchw, self.channels)
        hidden_nrhw = self.activation(self.reduce(x_nchw))
        mixed_nrhw = in_layout_of(hidden_nrhw, _mix(hidden_nrhw, *self._matrices(hidden_nrhw)))
        y_nchw = self.activation(self.expand(self.activation(self.mix(mixed_nrhw))))
        if torch.is_grad_enabled():
            return x_nchw + F.dropout2d(y_nchw, self.dropout, self.training)
        return add_shortcut(F.dropout2d(y_nchw, self.dropout, self.training), x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the matrices ``rows`` (from the left) and ``columns`` (from the right) of each group."""
        check_input("BAT", x_nchw, self.channels)
        rows_ngss, columns_ngss = self._matrices(self.activation(self.reduce(x_nchw)))
        return {"rows": rows_ngss, "columns": columns_ngss}

    def _matrices(self, hidden_nrhw: Tensor) -> tuple[Tensor, Tensor]:
        samples, _, height, width = hidden_nrhw.shape
        size = self.block_size
        if height % size or width % size:
            message = f"BAT: input is {height} x {width}, expected multiples of block_size={size}; pad or resize it"
            raise ValueError(message)
        narrow_nghw = self.activation(self.squeeze(hidden_nrhw))
        row_ngs = narrow_nghw.unflatten(2, (size, -1)).amax((3, 4))
        column_ngs = narrow_nghw.amax(2).unflatten(2, (size, -1)).amax(3)
        shape = (samples, self.groups, size, size)
        rows_ngss = torch.sigmoid(self.rows(row_ngs.flatten(1))).view(shape)
        columns_ngss = torch.sigmoid(self.columns(column_ngs.flatten(1))).view(shape)
        return rows_ngss / rows_ngss.sum(3, keepdim=True), columns_ngss / columns_ngss.sum(2, keepdim=True)


def _mix(x_nrhw: Tensor, rows_ngss: Tensor, columns_ngss: Tensor) -> Tensor:
    """Return ``rows @ blocks @ columns`` of each channel, in which an entry is a block of the map."""
    samples, hidden, height, width = x_nrhw.shape
    groups, size = rows_ngss.shape[1:3]
    blocks_ngdsl = x_nrhw.reshape(samples, groups, hidden // groups, size, height // size * width)
    mixed_ngdsl = torch.matmul(rows_ngss.unsqueeze(2), blocks_ngdsl)
    narrow = width // size < _WIDE and not torch.compiler.is_exporting()
    if narrow:  # a product by one W x W matrix a group is quicker than many by small ones
        eye_tt = torch.eye(width // size, dtype=columns_ngss.dtype, device=columns_ngss.device)
        columns_ngww = torch.einsum("ngij,ab->ngiajb", columns_ngss, eye_tt).reshape(samples, groups, width, width)
        mixed_nglw = mixed_ngdsl.reshape(samples, groups, hidden // groups * height, width)
        return torch.matmul(mixed_nglw, columns_ngww).view(x_nrhw.shape)
    mixed_nglst = mixed_ngdsl.reshape(samples, groups, hidden // groups * height, size, width // size)
    return torch.matmul(columns_ngss.transpose(2, 3).unsqueeze(2), mixed_nglst).reshape(x_nrhw.shape)
