"""Linear attention: the softmax kernel replaced by a product of positive features."""

import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_sequence.ops.checks import check_positive
from attnzoo_sequence.ops.masks import check_key_mask
from attnzoo_sequence.ops.prefix import feature_attend, feature_weights


class LinearAttention(nn.Module):
    """Average values with weights that are products of positive features, in time linear in the length.

    ``out_i = phi(q_i) sum_j phi(k_j) v_j^T / (phi(q_i) . sum_j phi(k_j) + eps)``, ``phi(x) = elu(x) + 1``; with
    ``causal`` the sums run over ``j <= i``, the last query aligned with the last key.

    Args:
        causal: Whether a query sees only keys up to its own position.
        eps: Added to the normaliser.

    Shape:
        Query ``(N, H, L, D)``, key ``(N, H, M, D)``, value ``(N, H, M, E)``, mask ``(N, M)`` with True = may attend, to
        ``(N, H, L, E)``. A query without a visible key gives zeros.

    Raises:
        ValueError: ``eps`` is not positive.

    Source:
        Katharopoulos et al., "Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention", ICML
        2020, arXiv:2006.16236, eq. 5-12. Code: github.com/idiap/fast-transformers @ 2ad36b9,
        attention/linear_attention.py.
        Deviations: batch and heads come first, as in ``scaled_dot_product_attention``. The causal form sums in chunks.
    """

    def __init__(self, *, causal: bool = False, eps: float = 1e-6) -> None:
        super().__init__()
        check_positive("LinearAttention", eps=eps)
        self.causal = causal
        self.eps = eps

    def _features(self, query_nhld: Tensor, key_nhmd: Tensor, mask_nm: Tensor | None) -> tuple[Tensor, Tensor]:
        query, key = F.elu(query_nhld).add_(1), F.elu(key_nhmd).add_(1)
        check_key_mask(mask_nm, key_nhmd)
        if mask_nm is not None:
            key = key * mask_nm[:, None, :, None]
        return query, key

    def forward(
        self, query_nhld: Tensor, key_nhmd: Tensor, value_nhme: Tensor, mask_nm: Tensor | None = None
    ) -> Tensor:
        """Return the weighted averages of the values, ``(n, h, l, e)``."""
        query, key = self._features(query_nhld, key_nhmd, mask_nm)
        return feature_attend(query, key, value_nhme, causal=self.causal, eps=self.eps)

    def attention(
        self, query_nhld: Tensor, key_nhmd: Tensor, value_nhme: Tensor, mask_nm: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the weights that ``forward`` never forms; rows sum to slightly less than one because of ``eps``."""
        query, key = self._features(query_nhld, key_nhmd, mask_nm)
        return {"attention": feature_weights(query, key, causal=self.causal, eps=self.eps)}
