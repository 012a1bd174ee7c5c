"""Gated attention pooling of multiple-instance learning."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.attend import masked_softmax
from attnzoo_sequence.ops.checks import check_positive
from attnzoo_sequence.ops.masks import check_key_mask


class GatedMILAttention(nn.Module):
    """Pool a bag of instances into one vector, weighted by a small gated network.

    ``a_k = w . (tanh(V h_k + b) * sigmoid(U h_k + c));  z = sum_k softmax_k(a) h_k``; without the gate the sigmoid is
    left out.

    Args:
        embed_dim: Width of the instances.
        hidden_channels: Width of the scoring network.
        branches: Number of pooled vectors, each with weights of its own.
        gated: Whether the gate ``sigmoid(U h + c)`` is there.

    Shape:
        ``(N, M, C)``, mask ``(N, M)`` with True = instance, to ``(N, branches, C)``; an empty bag gives zeros.

    Raises:
        ValueError: ``hidden_channels`` or ``branches`` is not positive.

    Source:
        Ilse et al., "Attention-based Deep Multiple Instance Learning", ICML 2018, arXiv:1802.04712, eq. 8-9.
        Authors' code: github.com/AMLab-Amsterdam/AttentionDeepMIL @ eb0434b, model.py.
        Deviations: bags in batches, with a mask; no bias on the score, which the softmax cancels.
    """

    def __init__(self, embed_dim: int, *, hidden_channels: int = 128, branches: int = 1, gated: bool = True) -> None:
        super().__init__()
        check_positive("GatedMILAttention", embed_dim=embed_dim, hidden_channels=hidden_channels, branches=branches)
        self.hidden = nn.Linear(embed_dim, hidden_channels)
        self.gate = nn.Linear(embed_dim, hidden_channels) if gated else None
        self.score = nn.Linear(hidden_channels, branches, bias=False)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def attention(self, x_nmc: Tensor, mask_nm: Tensor | None = None) -> dict[str, Tensor]:
        """Return the weights of the instances, ``(n, branches, m)``."""
        check_key_mask(mask_nm, x_nmc)
        hidden_nmr = torch.tanh(self.hidden(x_nmc))
        if self.gate is not None:
            hidden_nmr = hidden_nmr * torch.sigmoid(self.gate(x_nmc))
        score_nbm = self.score(hidden_nmr).transpose(1, 2)
        return {"attention": masked_softmax(score_nbm, None if mask_nm is None else mask_nm[:, None])}

    def forward(self, x_nmc: Tensor, mask_nm: Tensor | None = None) -> Tensor:
        """Return the pooled vectors, ``(n, branches, c)``."""
        return self.attention(x_nmc, mask_nm)["attention"].to(x_nmc.dtype) @ x_nmc
