"""Gated linear attention: a matrix state whose rows decay at learned rates."""

from torch import Tensor, nn

from attnzoo_sequence.ops.prefix import without_autocast
from attnzoo_sequence.ops.recurrent import gated_prefix


class GatedLinearAttention(nn.Module):
    """Write values into a matrix state under their keys, let it decay channel by channel, and read it by the query.

    ``S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T;  o_t = S_t^T (q_t d^(-1/2))``

    Shape:
        Query and key ``(N, H, L, D)``, value ``(N, H, L, E)``, log decay ``(N, H, L, D)`` (not positive), initial state
        ``(N, H, D, E)`` (left out: zeros), to output ``(N, H, L, E)`` and last state ``(N, H, D, E)``. Always causal. A
        call with the last state of another goes on where that one ended, one token at a time if need be.

    Source:
        Yang et al., "Gated Linear Attention Transformers with Hardware-Efficient Training", ICML 2024,
        arXiv:2312.06635, eq. 3. Code: github.com/fla-org/flash-linear-attention @ bc3b101, fla/ops/gla/naive.py.
        Deviations: computed in chunks, equal to the recurrence; the state is (key, value) as in the naive code (the
        layers of fla now keep it transposed).
    """

    def forward(
        self,
        query_nhld: Tensor,
        key_nhld: Tensor,
        value_nhle: Tensor,
        log_decay_nhld: Tensor,
        initial_state_nhde: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs ``(n, h, l, e)`` and the last state ``(n, h, d, e)``."""
        query = query_nhld * query_nhld.shape[-1] ** -0.5
        with without_autocast(query):
            return gated_prefix(query, key_nhld, value_nhle, log_decay_nhld, initial_state_nhde)
