"""Additive score of Bahdanau, Cho and Bengio."""

import torch
from torch import Tensor, nn

from attnzoo_sequence.ops.checks import check_positive


class AdditiveScore(nn.Module):
    """Score every key for every query by a small network with one hidden layer.

    ``e_ij = v . tanh(Wq q_i + Wk k_j)``

    Args:
        query_dim: Width of the queries.
        key_dim: Width of the keys; left out: ``query_dim``.
        hidden_dim: Width of the hidden layer; left out: ``query_dim``.
        bias: Whether the hidden layer has a bias.

    Shape:
        query ``(N, L, query_dim)``, key ``(N, M, key_dim)`` to ``(N, L, M)``; memory grows with ``L * M * hidden_dim``.

    Raises:
        ValueError: A width that is not positive.

    Source:
        Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate", ICLR 2015,
        arXiv:1409.0473, appendix A.1.2. Authors' code: github.com/lisa-groundhog/GroundHog @ 4d2433b6.
        Deviations: none; ``v`` starts at zero there, so that the first weights are all equal.
    """

    def __init__(
        self, query_dim: int, *, key_dim: int | None = None, hidden_dim: int | None = None, bias: bool = False
    ) -> None:
        super().__init__()
        check_positive("AdditiveScore", query_dim=query_dim, key_dim=key_dim, hidden_dim=hidden_dim)
        hidden_dim = hidden_dim or query_dim
        self.query = nn.Linear(query_dim, hidden_dim, bias=bias)
        self.key = nn.Linear(key_dim or query_dim, hidden_dim, bias=False)
        self.vector = nn.Linear(hidden_dim, 1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw matrices from N(0, 0.001^2); the vector and the bias are zero."""
        nn.init.normal_(self.query.weight, std=0.001)
        nn.init.normal_(self.key.weight, std=0.001)
        nn.init.zeros_(self.vector.weight)
        if self.query.bias is not None:
            nn.init.zeros_(self.query.bias)

    def forward(self, query_nld: Tensor, key_nme: Tensor) -> Tensor:
        """Return the scores ``(N, L, M)``."""
        score_nlm: Tensor = self.vector(
            torch.tanh(self.query(query_nld)[:, :, None] + self.key(key_nme)[:, None])
        ).squeeze(-1)
        return score_nlm
