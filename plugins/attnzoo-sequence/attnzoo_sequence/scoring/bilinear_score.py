"""Bilinear score, Luong's "general"."""

import torch
from torch import Tensor, nn

from attnzoo_sequence.ops.checks import check_positive


class BilinearScore(nn.Module):
    """Score every key for every query by a learned bilinear form.

    ``e_ij = q_i^T W k_j``

    Args:
        query_dim: Width of the queries.
        key_dim: Width of the keys; left out: ``query_dim``.

    Shape:
        query ``(N, L, query_dim)``, key ``(N, M, key_dim)`` to ``(N, L, M)``.

    Raises:
        ValueError: A width that is not positive.

    Source:
        Luong et al., "Effective Approaches to Attention-based Neural Machine Translation", EMNLP 2015,
        arXiv:1508.04025.
        Authors' code: github.com/lmthang/nmt.matlab @ 32f8564e; uniform in [-0.1, 0.1].
        Deviations: the matrix acts on the query, ``(W^T q) . k``; the numbers are the same.
    """

    def __init__(self, query_dim: int, *, key_dim: int | None = None) -> None:
        super().__init__()
        check_positive("BilinearScore", query_dim=query_dim, key_dim=key_dim)
        self.weight = nn.Parameter(torch.empty(query_dim, key_dim or query_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the matrix uniformly from [-0.1, 0.1]."""
        nn.init.uniform_(self.weight, -0.1, 0.1)

    def project(self, query_nld: Tensor) -> Tensor:
        """Return queries ``(N, L, key_dim)`` whose dot product with a key is the score."""
        return query_nld @ self.weight

    def forward(self, query_nld: Tensor, key_nme: Tensor) -> Tensor:
        """Return the scores ``(N, L, M)``."""
        return self.project(query_nld) @ key_nme.transpose(-2, -1)
