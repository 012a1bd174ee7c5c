"""Polarized self-attention as the equations of the paper have it."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.position_pooling import position_logits, position_weights, weighted_sum
from attnzoo_vision.ops.two_gates import scale_by_both, scale_by_sum


class PolarizedPaper(nn.Module):
    """Scale by a channel gate and a spatial gate, each from attention with one axis collapsed.

    ``g_c(x) = sigmoid(layer_norm(W_z sum_l a_l W_v x_l))`` with ``a = softmax_l(w_q x)``,
    ``g_s(x) = sigmoid(q^T U_v x)`` with ``q = softmax_c(U_q mean_l(x))``;
    parallel: ``y = x * (g_c(x) + g_s(x))``; sequential: ``z = x * g_c(x)``, ``y = z * g_s(z)``

    A weighted sum of projected positions is the projection of the sum, a vector times a projected map is a projected
    vector times the map, and the channel gate passes through both: no map is ever projected.

    Args:
        channels: Channels of the input.
        order: ``parallel`` adds the two gates of the input, ``sequential`` has the second look at the scaled map.
        eps: Constant in the layer norm.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``channels`` is below 2, or ``order`` is not known.

    Source:
        Liu et al., "Polarized Self-Attention: Towards High-quality Pixel-wise Regression", arXiv:2107.00782, eq. 1-4.
        Compared with the port in github.com/xmu-xiaoma666/External-Attention-pytorch @ d75848e,
        model/attention/PolarizedSelfAttention.py.
        Deviations: none from the equations. The authors' released weights belong to another form, which is
        ``polarized-parallel`` and ``polarized-sequential`` here. The bias of ``channel_query`` is kept because ports
        hold it; the softmax cancels it.
    """

    def __init__(
        self, channels: int, *, order: Literal["parallel", "sequential"] = "parallel", eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("PolarizedPaper", 2, channels=channels)
        check_choice("PolarizedPaper", "order", order, ("parallel", "sequential"))
        hidden = channels // 2
        self.order = order
        self.channel_query = nn.Linear(channels, 1)
        self.channel_value = nn.Linear(channels, hidden)
        self.channel_out = nn.Linear(hidden, channels)
        self.channel_norm = nn.LayerNorm(channels, eps=eps)
        self.spatial_query = nn.Linear(channels, hidden)
        self.spatial_value = nn.Linear(channels, hidden)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` scaled by both gates."""
        check_input("PolarizedPaper", x_nchw, self.channels)
        channel_nc = self._channel_gate(x_nchw, self._channel_pool(x_nchw))
        spatial_n1l = self._spatial_gate(x_nchw, channel_nc)
        scale = scale_by_sum if self.order == "parallel" else scale_by_both
        return scale(x_nchw, channel_nc, spatial_n1l)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the gates ``channel`` and ``spatial``, and the softmax over positions inside, ``channel_pool``."""
        check_input("PolarizedPaper", x_nchw, self.channels)
        size = x_nchw.shape[2:]
        pool_n1l = self._channel_pool(x_nchw)
        channel_nc = self._channel_gate(x_nchw, pool_n1l)
        return {
            "channel": channel_nc[:, :, None, None],
            "spatial": torch.unflatten(self._spatial_gate(x_nchw, channel_nc), 2, size),
            "channel_pool": torch.unflatten(pool_n1l, 2, size),
        }

    def _channel_pool(self, x_nchw: Tensor) -> Tensor:
        return position_weights(x_nchw, *affine(self.channel_query))

    def _channel_gate(self, x_nchw: Tensor, pool_n1l: Tensor) -> Tensor:
        context_nr = self.channel_value(weighted_sum(x_nchw, pool_n1l))
        return torch.sigmoid(self.channel_norm(self.channel_out(context_nr)))

    def _spatial_gate(self, x_nchw: Tensor, channel_nc: Tensor) -> Tensor:
        """Return the gate of every position, ``(N, 1, L)``, of the input or of the input scaled by ``channel_nc``."""
        mean_nc = global_mean(x_nchw)
        if self.order == "sequential":
            mean_nc = mean_nc * channel_nc
        query_nr = torch.softmax(self.spatial_query(mean_nc), dim=1)
        weight_nc, offset_n = (query_nr @ part for part in affine(self.spatial_value).filled())
        if self.order == "sequential":
            weight_nc = weight_nc * channel_nc
        return torch.sigmoid(position_logits(x_nchw, weight_nc.unsqueeze(1), offset_n[:, None, None]))
