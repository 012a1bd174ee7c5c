"""Polarized self-attention, sequential form."""

import torch
from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_input
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.position_pooling import position_weights, weighted_sum
from attnzoo_vision.ops.tokens import as_tokens, project_back
from attnzoo_vision.ops.two_gates import scale_positions


class PolarizedSequential(nn.Module):
    """Scale by a channel gate, then by a spatial gate of the result, each from attention with one axis collapsed.

    ``z = x * g_c`` with ``g_c = sigmoid(W2 relu(layer_norm(W1 W_v sum_l a_l x_l)))``, ``a = softmax_l(w_q x)``;
    ``y = z * sigmoid((U_q mean_l(z))^T softmax_l(U_v z))``, the last softmax for each channel on its own

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels // 2`` that gives the hidden units of the channel gate.
        eps: Constant in the layer norm.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``channels`` is below 2, or ``reduction`` leaves no hidden unit.

    Source:
        Liu et al., "Polarized Self-Attention: Towards High-quality Pixel-wise Regression", arXiv:2107.00782.
        Authors' code: github.com/DeLightCMU/PSA @ 20e307a, semantic-segmentation/network/PSA.py, PSA_s.
        Deviations: none from the code, whose weights were released; the paper has its spatial softmax over the pooled
        channels, which is ``polarized-paper``.
    """

    def __init__(self, channels: int, *, reduction: int = 4, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels = channels
        hidden = channels // 2
        check_at_least("PolarizedSequential", 2, channels=channels)
        check_at_least("PolarizedSequential", 1, reduction=reduction)
        check_at_most("PolarizedSequential", "reduction", reduction, "channels // 2", hidden)
        self.channel_query = nn.Linear(channels, 1, bias=False)
        self.channel_value = nn.Linear(channels, hidden, bias=False)
        self.channel_reduce = nn.Linear(hidden, hidden // reduction)
        self.channel_norm = nn.LayerNorm(hidden // reduction, eps=eps)
        self.channel_expand = nn.Linear(hidden // reduction, channels)
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
        """Return ``x_nchw`` scaled by both gates, one after the other."""
        check_input("PolarizedSequential", x_nchw, self.channels)
        channel_nc = self._channel_gate(self._channel_pool(x_nchw), x_nchw)
        gated_nchw = x_nchw * channel_nc[:, :, None, None]
        spatial_nl = self._spatial_gate(self._spatial_softmax(gated_nchw), channel_nc, x_nchw)
        return scale_positions(gated_nchw, spatial_nl.unsqueeze(1))

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the gates ``channel`` and ``spatial``, and the softmaxes inside, ``..._pool``."""
        check_input("PolarizedSequential", x_nchw, self.channels)
        size = x_nchw.shape[2:]
        pool_n1l = self._channel_pool(x_nchw)
        channel_nc = self._channel_gate(pool_n1l, x_nchw)
        weight_nrl = self._spatial_softmax(x_nchw * channel_nc[:, :, None, None])
        return {
            "channel": channel_nc[:, :, None, None],
            "spatial": torch.unflatten(self._spatial_gate(weight_nrl, channel_nc, x_nchw), 1, (1, *size)),
            "channel_pool": torch.unflatten(pool_n1l, 2, size),
            "spatial_pool": torch.unflatten(weight_nrl, 2, size),
        }

    def _channel_pool(self, x_nchw: Tensor) -> Tensor:
        # a bias moves all positions alike, which the softmax cancels
        return position_weights(x_nchw, affine(self.channel_query).weight)

    def _channel_gate(self, pool_n1l: Tensor, x_nchw: Tensor) -> Tensor:
        context_nr = self.channel_reduce(self.channel_value(weighted_sum(x_nchw, pool_n1l)))
        return torch.sigmoid(self.channel_expand(torch.relu(self.channel_norm(context_nr))))

    def _spatial_softmax(self, gated_nchw: Tensor) -> Tensor:
        # a bias of a channel moves all its positions alike, which the softmax cancels
        logits_nrhw = project_back(as_tokens(gated_nchw), affine(self.spatial_value).weight, None, gated_nchw)
        return torch.softmax(logits_nrhw.flatten(2), dim=2)

    def _spatial_gate(self, weight_nrl: Tensor, channel_nc: Tensor, x_nchw: Tensor) -> Tensor:
        query_nr = self.spatial_query(global_mean(x_nchw) * channel_nc)
        return torch.sigmoid(torch.bmm(query_nr.unsqueeze(1), weight_nrl).squeeze(1))
