"""Gated delta rule: a matrix state that decays and corrects what it answers to a key."""

from torch import Tensor, nn

from attnzoo_sequence.ops.prefix import without_autocast
from attnzoo_sequence.ops.recurrent import delta_prefix


class GatedDeltaRule(nn.Module):
    """Let a matrix state decay, correct it towards each value under its key, and read it by the query.

    ``S <- exp(g_t) S_{t-1};  S_t = S + k_t (beta_t (v_t - S^T k_t))^T;  o_t = S_t^T (q_t d^(-1/2))``

    Shape:
        Query and key ``(N, H, L, D)``, value ``(N, H, L, E)``, beta ``(N, H, L)`` in [0, 1], log decay ``(N, H, L)``
        (not positive), initial state ``(N, H, D, E)`` (left out: zeros), to output ``(N, H, L, E)`` and last state
        ``(N, H, D, E)``. Always causal. Keys are taken as they are and should have unit length.

    Source:
        Yang et al., "Gated Delta Networks: Improving Mamba2 with Delta Rule", ICLR 2025, arXiv:2412.06464, eq. 10.
        Code: github.com/fla-org/flash-linear-attention @ bc3b101, fla/ops/gated_delta_rule/naive.py.
        Deviations: computed in chunks by a triangular solve, equal to the recurrence.
    """

    def forward(
        self,
        query_nhld: Tensor,
        key_nhld: Tensor,
        value_nhle: Tensor,
        beta_nhl: Tensor,
        log_decay_nhl: Tensor,
        initial_state_nhde: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs ``(n, h, l, e)`` and the last state ``(n, h, d, e)``."""
        query = query_nhld * query_nhld.shape[-1] ** -0.5
        with without_autocast(query):
            return delta_prefix(query, key_nhld, value_nhle, beta_nhl, log_decay_nhl, initial_state_nhde)
