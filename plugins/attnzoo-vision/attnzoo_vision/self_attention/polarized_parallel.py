"""Polarized self-attention, parallel form."""

import torch
from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.position_pooling import position_logits, position_weights, weighted_sum
from attnzoo_vision.ops.two_gates import scale_by_sum


class PolarizedParallel(nn.Module):
    """Scale by a channel gate plus a spatial gate, each from attention with one axis collapsed.

    ``y = x * (g_c + g_s)`` with ``g_c = sigmoid(W_up W_v sum_l a_l x_l)``, ``a = softmax_l(w_q x)``, and
    ``g_s = sigmoid(softmax_l((U_q mean_l(x))^T U_v x))``

    A sum of projected positions is the projection of the sum, and a vector times a projected map is a projected vector
    times the map, so no map is ever projected.

    Args:
        channels: Channels of the input.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``channels`` is below 2.

    Source:
        Liu et al., "Polarized Self-Attention: Towards High-quality Pixel-wise Regression", arXiv:2107.00782.
        Authors' code: github.com/DeLightCMU/PSA @ 20e307a, semantic-segmentation/network/PSA.py, PSA_p.
        Deviations: none from the code, whose weights were released; the paper has a layer norm in the channel gate and
        its spatial softmax over the pooled channels; ``polarized-paper`` is that form.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("PolarizedParallel", 2, channels=channels)
        hidden = channels // 2
        self.channel_query = nn.Linear(channels, 1, bias=False)
        self.channel_value = nn.Linear(channels, hidden, bias=False)
        self.channel_out = nn.Linear(hidden, channels, bias=False)
        self.spatial_query = nn.Linear(channels, hidden, bias=False)
        self.spatial_value = nn.Linear(channels, hidden, bias=False)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Draw queries and values as the authors do: normal, by the number of inputs; the others stay as PyTorch's."""
        for layer in (self.channel_query, self.channel_value, self.spatial_query, self.spatial_value):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` scaled by the sum of both gates."""
        maps = self.attention(x_nchw)
        return scale_by_sum(x_nchw, maps["channel"].flatten(1), maps["spatial"].flatten(2))

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the gates ``channel`` and ``spatial``, and the softmaxes inside, ``..._pool``."""
        check_input("PolarizedParallel", x_nchw, self.channels)
        # biases of channel_query and spatial_value move all positions alike, which their softmax cancels
        pool_n1l = position_weights(x_nchw, affine(self.channel_query).weight)
        context_nc = self.channel_value(weighted_sum(x_nchw, pool_n1l))
        channel_nc = torch.sigmoid(self.channel_out(context_nc))
        query_nc = self.spatial_query(global_mean(x_nchw)) @ affine(self.spatial_value).weight
        spatial_n1l = torch.softmax(position_logits(x_nchw, query_nc.unsqueeze(1)), dim=2)
        size = x_nchw.shape[2:]
        return {
            "channel": channel_nc[:, :, None, None],
            "spatial": torch.unflatten(torch.sigmoid(spatial_n1l), 2, size),
            "channel_pool": torch.unflatten(pool_n1l, 2, size),
            "spatial_pool": torch.unflatten(spatial_n1l, 2, size),
        }
