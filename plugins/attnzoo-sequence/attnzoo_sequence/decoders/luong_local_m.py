"""Luong's local attention with monotonic alignment."""

import torch
from torch import Tensor

from attnzoo_sequence.decoders.luong_global import LuongGlobal, LuongScore
from attnzoo_sequence.ops.attend import masked_softmax
from attnzoo_sequence.ops.checks import check_positive
from attnzoo_sequence.ops.masks import check_key_mask


class LuongLocalM(LuongGlobal):
    """Attention within a window that walks over the source in step with the target.

    ``p_t = min(t, n - 1)``, ``a_ts = softmax_s(score(h_t, H_s))`` over ``|s - p_t| <= D``,
    ``y_t = tanh(W [c_t; h_t])``; ``n`` is the length of the source without its end symbol, ``t`` and ``s`` count from 0

    Args:
        embed_dim: Width of the states of decoder and encoder.
        score: ``general``, ``dot`` or ``concat``.
        half_window: Number of positions ``D`` on each side of the centre.

    Shape:
        query ``(N, T, C)``, key ``(N, S, C)``, lengths ``(N,)`` (of the sources, the end symbol counted) to
        ``(N, T, C)``; ``mask`` ``(N, S)`` hides further positions. The end symbol is never attended. ``first_step`` is
        the step of the first row of the query, for decoding step by step.

    Raises:
        ValueError: ``half_window`` is not positive; an unknown score.

    Source:
        Luong et al., EMNLP 2015, arXiv:1508.04025, section 3.2. Authors' code: github.com/lmthang/nmt.matlab @
        32f8564e, code/layers/attnLayerForward.m, code/misc/buildSrcVecs.m.
        Deviations: none; window positions outside the sentence are dropped, as there.
    """

    def __init__(self, embed_dim: int, *, score: LuongScore = "general", half_window: int = 10) -> None:
        check_positive("LuongLocalM", half_window=half_window)
        super().__init__(embed_dim, score=score)
        self.half_window = half_window

    def forward(  # type: ignore[override]
        self,
        query_ntc: Tensor,
        key_nsc: Tensor,
        lengths_n: Tensor,
        mask_ns: Tensor | None = None,
        first_step: int = 0,
    ) -> Tensor:
        """Return the attentional vector of every decoder state."""
        visible = self._window(query_ntc, key_nsc, lengths_n, mask_ns, first_step)
        return self.join(query_ntc, self.read(query_ntc, key_nsc, visible))

    def attention(  # type: ignore[override]
        self,
        query_ntc: Tensor,
        key_nsc: Tensor,
        lengths_n: Tensor,
        mask_ns: Tensor | None = None,
        first_step: int = 0,
    ) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, T, S)``, zero outside the window, and ``context`` ``(N, T, C)``."""
        visible = self._window(query_ntc, key_nsc, lengths_n, mask_ns, first_step)
        weight_nts = masked_softmax(self.scores(query_ntc, key_nsc), visible)
        return {"attention": weight_nts, "context": weight_nts @ key_nsc}

    def _window(
        self, query_ntc: Tensor, key_nsc: Tensor, lengths_n: Tensor, mask_ns: Tensor | None, first_step: int
    ) -> Tensor:
        """Return ``(N, T, S)``, True within the window and the sentence."""
        check_key_mask(mask_ns, key_nsc)
        step_t = torch.arange(query_ntc.shape[1], device=query_ntc.device) + first_step
        words_n1 = (lengths_n - 1)[:, None]
        centre_nt = torch.minimum(step_t[None], words_n1 - 1)
        return within_window(centre_nt, words_n1, key_nsc.shape[1], self.half_window, mask_ns)


def within_window(centre_nt: Tensor, words_n1: Tensor, keys: int, half_window: int, mask_ns: Tensor | None) -> Tensor:
    """Return ``(N, T, S)``: within ``half_window`` of the centre, before the end symbol, and not masked."""
    position_s = torch.arange(keys, device=centre_nt.device)
    near_nts = (position_s - centre_nt[..., None]).abs() <= half_window
    word_ns = position_s < words_n1
    return near_nts & (word_ns if mask_ns is None else word_ns & mask_ns)[:, None]
