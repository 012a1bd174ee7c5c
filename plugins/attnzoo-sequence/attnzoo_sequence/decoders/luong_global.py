"""Luong's global attention, as it sits on top of a recurrent decoder."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo_sequence.ops.attend import attend, masked_softmax
from attnzoo_sequence.ops.checks import check_choice, check_positive
from attnzoo_sequence.ops.masks import check_key_mask

LuongScore = Literal["dot", "general", "concat"]


class LuongGlobal(nn.Module):
    """Give every decoder state what it reads from all source states: the attentional vector.

    ``a_ts = softmax_s(score(h_t, H_s))``, ``c_t = sum_s a_ts H_s``, ``y_t = tanh(W [c_t; h_t])``;
    score ``dot``: ``h_t . H_s``; ``general``: ``H_s . (A h_t)``; ``concat``: ``v . tanh(H_s + A h_t)``

    Args:
        embed_dim: Width of the states of decoder and encoder.
        score: ``general``, ``dot`` or ``concat``.

    Shape:
        query ``(N, T, C)`` (decoder states) and key ``(N, S, C)`` (encoder states) to ``(N, T, C)``; ``mask``
        ``(N, S)`` is boolean, True = may attend; padded sources get weight 0, a source without any reads zeros.

    Raises:
        ValueError: An unknown score; a width that is not positive.

    Source:
        Luong et al., "Effective Approaches to Attention-based Neural Machine Translation", EMNLP 2015,
        arXiv:1508.04025, section 3.1. Authors' code: github.com/lmthang/nmt.matlab @ 32f8564e,
        code/layers/attnLayerForward.m.
        Deviations: ``concat`` is the form of that code, which does not project the source; the paper's has a matrix for
        it. Input feeding is the decoder's part.
    """

    def __init__(self, embed_dim: int, *, score: LuongScore = "general") -> None:
        super().__init__()
        name = type(self).__name__
        check_positive(name, embed_dim=embed_dim)
        check_choice(name, "score", score, ("dot", "general", "concat"))
        self.score = score
        self.score_matrix = None if score == "dot" else nn.Linear(embed_dim, embed_dim, bias=False)
        self.score_vector = nn.Linear(embed_dim, 1, bias=False) if score == "concat" else None
        self.output = nn.Linear(2 * embed_dim, embed_dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all matrices uniformly from [-0.1, 0.1]."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(self, query_ntc: Tensor, key_nsc: Tensor, mask_ns: Tensor | None = None) -> Tensor:
        """Return the attentional vector of every decoder state."""
        check_key_mask(mask_ns, key_nsc)
        visible = None if mask_ns is None else mask_ns[:, None]
        return self.join(query_ntc, self.read(query_ntc, key_nsc, visible))

    def attention(self, query_ntc: Tensor, key_nsc: Tensor, mask_ns: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, T, S)`` and ``context`` ``(N, T, C)``."""
        check_key_mask(mask_ns, key_nsc)
        visible = None if mask_ns is None else mask_ns[:, None]
        weight_nts = masked_softmax(self.scores(query_ntc, key_nsc), visible)
        return {"attention": weight_nts, "context": weight_nts @ key_nsc}

    def scores(self, query_ntc: Tensor, key_nsc: Tensor) -> Tensor:
        """Return the score ``(N, T, S)`` of every source state for every decoder state."""
        if self.score_matrix is not None:
            query_ntc = self.score_matrix(query_ntc)
        if self.score_vector is not None:
            score_nts: Tensor = self.score_vector(torch.tanh(query_ntc[:, :, None] + key_nsc[:, None])).squeeze(-1)
            return score_nts
        return query_ntc @ key_nsc.transpose(-2, -1)

    def read(self, query_ntc: Tensor, key_nsc: Tensor, visible: Tensor | None) -> Tensor:
        """Return the contexts ``(N, T, C)``; ``visible`` broadcasts to ``(N, T, S)``."""
        if self.score_vector is not None:
            return masked_softmax(self.scores(query_ntc, key_nsc), visible) @ key_nsc
        if self.score_matrix is not None:
            query_ntc = self.score_matrix(query_ntc)
        visible = None if visible is None else visible[:, None]
        return attend(query_ntc[:, None], key_nsc[:, None], key_nsc[:, None], visible=visible, scale=1.0)[:, 0]

    def join(self, query_ntc: Tensor, context_ntc: Tensor) -> Tensor:
        """Return ``tanh(W [c; h])``, the context first."""
        return torch.tanh(self.output(torch.cat([context_ntc, query_ntc], dim=-1)))
