"""Luong's local attention with predicted alignment."""

import torch
from torch import Tensor, nn

from attnzoo_sequence.decoders.luong_global import LuongGlobal, LuongScore
from attnzoo_sequence.decoders.luong_local_m import within_window
from attnzoo_sequence.ops.attend import masked_softmax
from attnzoo_sequence.ops.checks import check_positive
from attnzoo_sequence.ops.masks import check_key_mask


class LuongLocalP(LuongGlobal):
    """Attention within a window around a predicted position, weighted by a Gaussian about it.

    ``mu_t = n sigmoid(v . tanh(P h_t))``, ``a_ts = softmax_s(score(h_t, H_s)) exp(-(s - mu_t)^2 / (2 sigma^2))`` over
    ``|s - floor(mu_t)| <= D``, ``y_t = tanh(W [c_t; h_t])``; ``n`` is the length of the source without its end symbol

    Args:
        embed_dim: Width of the states of decoder and encoder.
        score: ``general``, ``dot`` or ``concat``.
        half_window: Number of positions ``D`` on each side of the centre.
        sigma: Deviation of the Gaussian; left out: ``D / 2``.

    Shape:
        query ``(N, T, C)``, key ``(N, S, C)``, lengths ``(N,)`` (of the sources, the end symbol counted) to
        ``(N, T, C)``; ``mask`` ``(N, S)`` hides further positions.

    Raises:
        ValueError: ``half_window`` or ``sigma`` is not positive; an unknown score.

    Source:
        Luong et al., EMNLP 2015, arXiv:1508.04025, section 3.2. Authors' code: github.com/lmthang/nmt.matlab @
        32f8564e, code/layers/attnLayerForward.m, code/layers/distLayerForward.m.
        Deviations: none; as there the product with the Gaussian is not normalised again, positions count from 0 and the
        position is learned through the Gaussian alone.
    """

    def __init__(
        self, embed_dim: int, *, score: LuongScore = "general", half_window: int = 10, sigma: float | None = None
    ) -> None:
        check_positive("LuongLocalP", half_window=half_window, sigma=sigma)
        super().__init__(embed_dim, score=score)
        self.half_window, self.sigma = half_window, half_window / 2 if sigma is None else sigma
        self.position_matrix = nn.Linear(embed_dim, embed_dim, bias=False)
        self.position_vector = nn.Linear(embed_dim, 1, bias=False)
        self.reset_parameters()

    def forward(  # type: ignore[override]
        self, query_ntc: Tensor, key_nsc: Tensor, lengths_n: Tensor, mask_ns: Tensor | None = None
    ) -> Tensor:
        """Return the attentional vector of every decoder state."""
        weight_nts, _ = self._weigh(query_ntc, key_nsc, lengths_n, mask_ns)
        return self.join(query_ntc, weight_nts @ key_nsc)

    def attention(  # type: ignore[override]
        self, query_ntc: Tensor, key_nsc: Tensor, lengths_n: Tensor, mask_ns: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, T, S)``, ``context`` ``(N, T, C)`` and ``position`` ``(N, T)``, the centres."""
        weight_nts, position_nt = self._weigh(query_ntc, key_nsc, lengths_n, mask_ns)
        return {"attention": weight_nts, "context": weight_nts @ key_nsc, "position": position_nt}

    def _weigh(
        self, query_ntc: Tensor, key_nsc: Tensor, lengths_n: Tensor, mask_ns: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the weights, times the Gaussian, and the predicted positions."""
        check_key_mask(mask_ns, key_nsc)
        words_n1 = (lengths_n - 1)[:, None]
        share_nt = torch.sigmoid(self.position_vector(torch.tanh(self.position_matrix(query_ntc)))).squeeze(-1)
        position_nt = words_n1 * share_nt
        keys = key_nsc.shape[1]
        visible = within_window(position_nt.detach().floor(), words_n1, keys, self.half_window, mask_ns)
        distance_nts = torch.arange(keys, device=key_nsc.device) - position_nt[..., None]
        # Beyond the window the weight is zero anyhow, and numbers that underflow are slow.
        distance_nts = distance_nts.clamp(-self.half_window - 1, self.half_window + 1)
        gaussian_nts = torch.exp(-distance_nts.square() / (2 * self.sigma**2))
        return masked_softmax(self.scores(query_ntc, key_nsc), visible) * gaussian_nts, position_nt
