"""Talking-heads attention: heads are mixed before and after the softmax."""

import torch
from torch import Tensor, nn

from attnzoo.layers import affine
from attnzoo_sequence.ops.attend import masked_softmax, merge_heads, split_heads, visibility
from attnzoo_sequence.ops.checks import check_heads, check_positive


class TalkingHeads(nn.Module):
    """Self-attention whose scores are mixed over the heads before the softmax, and whose weights after it.

    ``J_k = scale q_k k_k^T``; ``A = softmax(T1 J)`` (mask here); ``U = T2 A``; ``y = Wo [U_1 v_1; ...; U_V v_V]``

    Args:
        embed_dim: Width of the input and output.
        num_heads: Number of key heads.
        softmax_heads: Number of heads of the softmax; left out: ``num_heads``.
        value_heads: Number of value heads; left out: ``num_heads``.
        key_dim: Width of a query and key head; left out: ``embed_dim / num_heads``.
        value_dim: Width of a value head; left out: ``embed_dim / num_heads``.
        scale: Factor of the scores; left out: ``1 / sqrt(key_dim)``.
        causal: A query sees the keys up to its own position.
        bias: Whether queries, keys and values have a bias.
        talk_bias: Whether the two mixtures of heads have a bias.
        output_bias: Whether the output has a bias.
        dropout: Probability of dropping a mixed weight in training.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``; ``mask`` ``(N, L)`` is boolean, True = may attend.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim`` and a width is left out.

    Source:
        Shazeer et al., "Talking-Heads Attention", 2020, arXiv:2003.02436, section 3.
        Reference for the form with biases: timm 1.0.31, timm/models/cait.py; truncated N(0, 0.02^2), biases zero.
        Deviations: the scale is an argument; the paper folds it into the initialisation.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        softmax_heads: int | None = None,
        value_heads: int | None = None,
        key_dim: int | None = None,
        value_dim: int | None = None,
        scale: float | None = None,
        causal: bool = False,
        bias: bool = False,
        talk_bias: bool = False,
        output_bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive("TalkingHeads", embed_dim=embed_dim, num_heads=num_heads, key_dim=key_dim, value_dim=value_dim)
        check_positive("TalkingHeads", softmax_heads=softmax_heads, value_heads=value_heads)
        if key_dim is None or value_dim is None:
            check_heads("TalkingHeads", embed_dim, num_heads)
        self.num_heads, self.value_heads = num_heads, value_heads or num_heads
        key_dim, value_dim = key_dim or embed_dim // num_heads, value_dim or embed_dim // num_heads
        softmax_heads = softmax_heads or num_heads
        self.scale, self.causal = key_dim**-0.5 if scale is None else scale, causal
        self.query = nn.Linear(embed_dim, num_heads * key_dim, bias=bias)
        self.key = nn.Linear(embed_dim, num_heads * key_dim, bias=bias)
        self.value = nn.Linear(embed_dim, self.value_heads * value_dim, bias=bias)
        self.talk_before = nn.Linear(num_heads, softmax_heads, bias=talk_bias)
        self.talk_after = nn.Linear(softmax_heads, self.value_heads, bias=talk_bias)
        self.output = nn.Linear(self.value_heads * value_dim, embed_dim, bias=output_bias)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights from a truncated N(0, 0.02^2), biases zero."""
        for linear in (self.query, self.key, self.value, self.talk_before, self.talk_after, self.output):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return for each token what its value heads read."""
        _, mixed_nvlm = self._weigh(query_nlc, mask_nl)
        value_nvmd = split_heads(self.value(query_nlc), self.value_heads)
        output_nlc: Tensor = self.output(merge_heads(self.dropout(mixed_nvlm) @ value_nvmd))
        return output_nlc

    def attention(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, softmax_heads, L, L)`` and ``mixed`` ``(N, value_heads, L, L)``."""
        weight_nslm, mixed_nvlm = self._weigh(query_nlc, mask_nl)
        return {"attention": weight_nslm, "mixed": mixed_nvlm}

    def _weigh(self, query_nlc: Tensor, mask_nl: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the weights of the softmax heads and their mixtures for the value heads."""
        query_nkld = split_heads(self.query(query_nlc), self.num_heads) * self.scale
        key_nkmd = split_heads(self.key(query_nlc), self.num_heads)
        score_nslm = _talk(self.talk_before, query_nkld @ key_nkmd.transpose(-2, -1))
        visible = visibility(query_nkld, key_nkmd, mask_nm=mask_nl, causal=self.causal)
        weight_nslm = masked_softmax(score_nslm, visible)
        mixed_nvlm = _talk(self.talk_after, weight_nslm)
        if visible is not None and self.talk_after.bias is not None:
            # The bias would give hidden keys a weight again.
            mixed_nvlm = mixed_nvlm.masked_fill(~visible, 0.0)
        return weight_nslm, mixed_nvlm


def _talk(talk: nn.Linear, x_nhlm: Tensor) -> Tensor:
    """Mix the heads: one matrix product over the maps laid flat, so that heads need not become the last axis."""
    length, keys = x_nhlm.shape[-2:]
    weight_oh, bias_o = affine(talk)
    mixed_nhf = torch.bmm(weight_oh.expand(x_nhlm.shape[0], -1, -1), x_nhlm.flatten(2))
    if bias_o is not None:
        mixed_nhf = mixed_nhf + bias_o[:, None]
    mixed_nhlm: Tensor = mixed_nhf.unflatten(2, (length, keys))
    return mixed_nhlm
