"""Global Second-order Pooling along positions."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.adaptive_pooling import adaptive_mean
from attnzoo_vision.ops.batch_norm import BatchNorm1d, BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.gram import gram
from attnzoo_vision.ops.grouped_linear import GroupedLinear
from attnzoo_vision.ops.rectify import rectify
from attnzoo_vision.ops.second_order import init_by_outputs

_SIDE = 8
_PLACES = _SIDE * _SIDE


class GSoPPosition(nn.Module):
    """Scale each position by a weight computed from the second-order statistics of an 8 x 8 grid of positions.

    ``t = pool_8x8(BN(W1 relu(x) + b1))``, ``K = t^T t / n - (sum_d t)(sum_d t)^T / n^2``, n = 64,
    ``y = relu(x * pool(sigmoid(W3 relu(W2_i BN(K)_i + b2_i)_i + b3)))``

    Args:
        channels: Channels of the input.
        hidden_channels: Channels that the statistics are taken of.
        centred: Take ``hidden_channels`` for n, which makes K the covariance over the channels, as the paper has it.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: A number is less than 1.

    Source:
        Gao et al., "Global Second-order Pooling Convolutional Networks", CVPR 2019, arXiv:1811.12006, section 3.2.
        Authors' code: github.com/ZilinGao/Global-Second-order-Pooling-Convolutional-Networks @ 662a699,
        torchvision/models/resnet.py, ``Bottleneck.pos_att``.
        Deviations: none from the code, which divides by the number of positions: its K is the covariance only for 64
        ``hidden_channels``, or if ``centred``. A training batch of one value a channel is normalised with the running
        statistics.
    """

    def __init__(self, channels: int, *, hidden_channels: int = 128, centred: bool = False) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("GSoPPosition", 1, channels=channels, hidden_channels=hidden_channels)
        self.count = hidden_channels if centred else _PLACES
        self.reduce = nn.Conv2d(channels, hidden_channels, 1)
        self.norm = BatchNorm2d(hidden_channels)
        self.row_norm = BatchNorm1d(_PLACES)
        self.row_filter = GroupedLinear(_PLACES**2, 4 * _PLACES, groups=_PLACES)
        self.expand = nn.Linear(4 * _PLACES, _PLACES)
        init_by_outputs(self.reduce, self.row_filter, self.expand)

    def reset_parameters(self) -> None:
        """Draw the weights as the authors' network does: normal, by the number of outputs; all else as PyTorch's."""
        reset_layers(self)
        init_by_outputs(self.reduce, self.row_filter, self.expand)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each position scaled by its weight in (0, 1), then rectified."""
        check_input("GSoPPosition", x_nchw, self.channels)
        height, width = x_nchw.shape[2:]
        weight_n1hw = adaptive_mean(self._grid(x_nchw), height, width)
        return rectify(x_nchw * weight_n1hw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``grid``, the weights of the 8 x 8 positions, ``(N, 1, 8, 8)``."""
        check_input("GSoPPosition", x_nchw, self.channels)
        return {"grid": self._grid(x_nchw)}

    def _grid(self, x_nchw: Tensor) -> Tensor:
        feature_ndhw = self.norm(convolve(self.reduce, rectify(x_nchw)))
        feature_ndm = adaptive_mean(feature_ndhw, _SIDE, _SIDE).flatten(2)
        mean_nm = feature_ndm.sum(dim=1) / self.count
        product_nmm = gram(feature_ndm.transpose(1, 2)) / self.count
        moment_nmm = (product_nmm - mean_nm[:, :, None] * mean_nm[:, None, :]).to(feature_ndm.dtype)
        row_nr = torch.relu(self.row_filter(self.row_norm(moment_nmm).flatten(1)))
        weight_nm: Tensor = self.expand(row_nr).sigmoid()
        return weight_nm.view(-1, 1, _SIDE, _SIDE)
