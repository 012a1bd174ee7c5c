"""Delta rule: a matrix state that corrects what it answers to a key."""

from torch import Tensor, nn

from attnzoo_sequence.ops.prefix import without_autocast
from attnzoo_sequence.ops.recurrent import delta_prefix


class DeltaRule(nn.Module):
    """Correct a matrix state towards each value under its key, and read it by the query.

    ``S_t = S_{t-1} + k_t (beta_t (v_t - S_{t-1}^T k_t))^T;  o_t = S_t^T (q_t d^(-1/2))``

    Shape:
        Query and key ``(N, H, L, D)``, value ``(N, H, L, E)``, beta ``(N, H, L)`` in [0, 1], initial state ``(N, H, D,
        E)`` (left out: zeros), to output ``(N, H, L, E)`` and last state ``(N, H, D, E)``. Always causal. Keys are
        taken as they are and should have unit length: the state grows without bound where ``beta |k|^2 > 2``.

    Source:
        Yang et al., "Parallelizing Linear Transformers with the Delta Rule over Sequence Length", NeurIPS 2024,
        arXiv:2406.06484, eq. 5-10. Code: github.com/fla-org/flash-linear-attention @ bc3b101,
        fla/ops/delta_rule/naive.py.
        Deviations: computed in chunks by a triangular solve, equal to the recurrence.
    """

    def forward(
        self,
        query_nhld: Tensor,
        key_nhld: Tensor,
        value_nhle: Tensor,
        beta_nhl: Tensor,
        initial_state_nhde: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs ``(n, h, l, e)`` and the last state ``(n, h, d, e)``."""
        query = query_nhld * query_nhld.shape[-1] ** -0.5
        with without_autocast(query):
            return delta_prefix(query, key_nhld, value_nhle, beta_nhl, None, initial_state_nhde)
