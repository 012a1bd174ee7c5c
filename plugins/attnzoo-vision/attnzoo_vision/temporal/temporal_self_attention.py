"""Temporal self-attention of GLTR."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.pairwise import attend


class TemporalSelfAttention(nn.Module):
    """Add to each frame's feature a mean over all frames, weighted by how well they fit.

    ``y = x + BN(W softmax((Wq x)^T Wk x) Wv x)``

    Args:
        channels: Channels of the features.
        hidden_channels: Channels of queries, keys and values; None means half of ``channels``.

    Shape:
        ``(N, C, T)`` to ``(N, C, T)``; any T from 1 on.

    Raises:
        ValueError: A number of channels is below 1.

    Source:
        Li et al., "Global-Local Temporal Representations for Video Person Re-Identification", ICCV 2019,
        arXiv:1908.10049, section 4.2. First author's code: github.com/ljn114514/GLTR @ 5204197, NonLocalBlock1D.py.
        The norm starts at zero, so that the block starts as the identity.
        Deviations: none. The logits are not scaled, and the bias of the keys changes nothing, as there.
    """

    def __init__(self, channels: int, *, hidden_channels: int | None = None) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("TemporalSelfAttention", 1, channels=channels, hidden_channels=hidden_channels)
        hidden = max(channels // 2, 1) if hidden_channels is None else hidden_channels
        self.query = nn.Linear(channels, hidden)
        self.key = nn.Linear(channels, hidden)
        self.value = nn.Linear(channels, hidden)
        self.project = nn.Linear(hidden, channels)
        self.norm = BatchNorm1d(channels)
        nn.init.zeros_(self.norm.weight)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does; the norm gives zero, the block its input."""
        reset_layers(self)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x_nct: Tensor) -> Tensor:
        """Return the features plus the weighted means."""
        check_input("TemporalSelfAttention", x_nct, self.channels, "NCT")
        x_ntc = x_nct.transpose(1, 2)
        y_ntr = attend(self.query(x_ntc), self.key(x_ntc), self.value(x_ntc), 1.0)
        y_nct: Tensor = self.norm(self.project(y_ntr).transpose(1, 2))
        return x_nct + y_nct

    def attention(self, x_nct: Tensor) -> dict[str, Tensor]:
        """Return ``attention``, the weights of all frames for each, ``(N, T, T)``."""
        check_input("TemporalSelfAttention", x_nct, self.channels, "NCT")
        x_ntc = x_nct.transpose(1, 2)
        return {"attention": torch.softmax(self.query(x_ntc) @ self.key(x_ntc).transpose(1, 2), dim=-1)}
