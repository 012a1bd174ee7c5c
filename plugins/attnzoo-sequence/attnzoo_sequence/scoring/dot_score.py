"""Dot-product score, plain and scaled."""

from torch import Tensor, nn


class DotScore(nn.Module):
    """Score every key for every query by their dot product.

    ``e_ij = q_i . k_j``, or ``q_i . k_j / sqrt(d)`` when scaled

    Args:
        scaled: Divide by the square root of the width, so that the variance of the scores does not grow with it.

    Shape:
        query ``(N, L, d)``, key ``(N, M, d)`` to ``(N, L, M)``.

    Source:
        Luong et al., "Effective Approaches to Attention-based Neural Machine Translation", EMNLP 2015,
        arXiv:1508.04025;
        scaled: Vaswani et al., arXiv:1706.03762, eq. 1.
        Deviations: none.
    """

    def __init__(self, *, scaled: bool = False) -> None:
        super().__init__()
        self.scaled = scaled

    def forward(self, query_nld: Tensor, key_nmd: Tensor) -> Tensor:
        """Return the scores ``(N, L, M)``."""
        if self.scaled:
            query_nld = query_nld * query_nld.shape[-1] ** -0.5
        return query_nld @ key_nmd.transpose(-2, -1)
