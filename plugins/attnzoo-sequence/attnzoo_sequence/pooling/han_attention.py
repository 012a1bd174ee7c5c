"""Attention pooling of hierarchical attention networks."""

import torch
from torch import Tensor, nn

from attnzoo_sequence.ops.attend import masked_softmax
from attnzoo_sequence.ops.checks import check_positive
from attnzoo_sequence.ops.masks import check_key_mask


class HANAttention(nn.Module):
    """Pool the states of a sequence into one vector, weighted by their agreement with a learned context.

    ``u_t = tanh(W h_t + b);  s = sum_t softmax_t(u_t . context) h_t``

    Args:
        embed_dim: Width of the states.
        hidden_channels: Width of ``u``; None: ``embed_dim``.

    Shape:
        ``(N, M, C)``, mask ``(N, M)`` with True = token, to ``(N, C)``; a sequence without tokens gives zeros.

    Raises:
        ValueError: ``embed_dim`` or ``hidden_channels`` is not positive.

    Source:
        Yang et al., "Hierarchical Attention Networks for Document Classification", NAACL 2016, eq. 5-7. No authors'
        code.
        Deviations: none; the popular port github.com/uvipen/Hierarchical-attention-networks-pytorch applies a second
        tanh, to the score, which is another function.
    """

    def __init__(self, embed_dim: int, *, hidden_channels: int | None = None) -> None:
        super().__init__()
        check_positive("HANAttention", embed_dim=embed_dim, hidden_channels=hidden_channels)
        hidden = embed_dim if hidden_channels is None else hidden_channels
        self.hidden = nn.Linear(embed_dim, hidden)
        self.context = nn.Parameter(torch.empty(hidden))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and context from N(0, 0.05^2), biases zero."""
        nn.init.normal_(self.hidden.weight, std=0.05)
        nn.init.zeros_(self.hidden.bias)
        nn.init.normal_(self.context, std=0.05)

    def attention(self, x_nmc: Tensor, mask_nm: Tensor | None = None) -> dict[str, Tensor]:
        """Return the weights of the states, ``(n, m)``."""
        check_key_mask(mask_nm, x_nmc)
        hidden_nmr = torch.tanh(self.hidden(x_nmc))
        return {"attention": masked_softmax(hidden_nmr @ self.context.to(hidden_nmr.dtype), mask_nm)}

    def forward(self, x_nmc: Tensor, mask_nm: Tensor | None = None) -> Tensor:
        """Return the pooled states, ``(n, c)``."""
        weight_nm = self.attention(x_nmc, mask_nm)["attention"].to(x_nmc.dtype)
        return (weight_nm[:, None] @ x_nmc).squeeze(1)
