"""Soft attention: the mean of the values, weighted by a score of their keys."""

from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.attend import attend, masked_softmax
from attnzoo_sequence.ops.build_score import ScoreName, build_score
from attnzoo_sequence.ops.checks import check_positive
from attnzoo_sequence.ops.masks import check_key_mask, check_pair_mask
from attnzoo_sequence.scoring.additive_score import AdditiveScore
from attnzoo_sequence.scoring.bilinear_score import BilinearScore


class SoftAttention(nn.Module):
    """Read, for every query, the mean of the values weighted by the softmax of a score of their keys.

    ``a_ij = softmax_j(score(q_i, k_j))``; ``y_i = sum_j a_ij v_j``, and without values ``y_i = sum_j a_ij k_j``

    Args:
        query_dim: Width of the queries.
        score: ``scaled_dot``, ``dot``, ``bilinear`` or ``additive``.
        key_dim: Width of the keys; left out: ``query_dim``. The dot products need equal widths.
        hidden_dim: Width of the hidden layer of the additive score; left out: ``query_dim``.
        bias: Whether the additive score has a bias.

    Shape:
        query ``(N, L, query_dim)``, key ``(N, M, key_dim)``, value ``(N, M, E)`` to ``(N, L, E)``. Plain mode: no
        value is given and the keys are read. ``mask`` ``(N, M)`` or ``(N, L, M)`` is boolean, True = may attend; a
        query that sees no key reads zeros.

    Raises:
        ValueError: An unknown score; unequal widths for a dot product.

    Source:
        Bahdanau et al., arXiv:1409.0473 (additive); Luong et al., arXiv:1508.04025 (dot, bilinear);
        Vaswani et al., arXiv:1706.03762 (scaled); key-value mode: Miller et al., EMNLP 2016, arXiv:1606.03126.
        Deviations: none.
    """

    def __init__(
        self,
        query_dim: int,
        *,
        score: ScoreName = "scaled_dot",
        key_dim: int | None = None,
        hidden_dim: int | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_positive("SoftAttention", query_dim=query_dim, key_dim=key_dim, hidden_dim=hidden_dim)
        self.score = build_score("SoftAttention", score, query_dim, key_dim, hidden_dim, bias)
        self.scale = query_dim**-0.5 if score == "scaled_dot" else 1.0

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)

    def forward(
        self, query_nld: Tensor, key_nme: Tensor, value_nmv: Tensor | None = None, mask_nm: Tensor | None = None
    ) -> Tensor:
        """Return what each query reads; products go through the fused kernel, which never forms the weights."""
        value_nmv = key_nme if value_nmv is None else value_nmv
        visible = _visible(mask_nm, query_nld, key_nme)
        if isinstance(self.score, AdditiveScore):
            return masked_softmax(self.score(query_nld, key_nme), visible) @ value_nmv
        if isinstance(self.score, BilinearScore):
            query_nld = self.score.project(query_nld)
        visible = None if visible is None else visible[:, None]
        read_n1lv = attend(query_nld[:, None], key_nme[:, None], value_nmv[:, None], visible=visible, scale=self.scale)
        return read_n1lv[:, 0]

    def attention(
        self, query_nld: Tensor, key_nme: Tensor, value_nmv: Tensor | None = None, mask_nm: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``score`` ``(N, L, M)`` before the mask, and ``attention``, the weights."""
        score_nlm = self.score(query_nld, key_nme)
        return {"score": score_nlm, "attention": masked_softmax(score_nlm, _visible(mask_nm, query_nld, key_nme))}


def _visible(mask: Tensor | None, query_nld: Tensor, key_nme: Tensor) -> Tensor | None:
    """Return the mask with an axis for the queries."""
    if mask is None or mask.dim() == 3:
        check_pair_mask(mask, query_nld, key_nme)
        return mask
    check_key_mask(mask, key_nme)
    return mask[:, None]
