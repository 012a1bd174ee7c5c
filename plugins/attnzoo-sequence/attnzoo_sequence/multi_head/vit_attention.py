"""Self-attention of vision transformers, with normed queries and keys, a gate and a normed output."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.attend import attend, attention_weights, merge_heads, visibility
from attnzoo_sequence.ops.checks import check_choice, check_heads, check_positive

Norm = Literal["layer", "rms"]


class ViTAttention(nn.Module):
    """Self-attention whose heads may have any width, with the optional norms and the gate of timm.

    ``head_h = softmax(norm(q_h) norm(k_h)^T / sqrt(d)) v_h``; ``y = Wo (norm([head_1; ...; head_H]) * sigmoid(Wg q))``

    Args:
        embed_dim: Width of the input.
        num_heads: Number of heads.
        head_dim: Width of a head; left out: ``embed_dim / num_heads``.
        out_dim: Width of the output; left out: ``embed_dim``.
        bias: Whether queries, keys, values and the gate have a bias.
        output_bias: Whether the output has a bias.
        qk_norm: Norm each query and key over its head: ``layer``, ``rms`` or None.
        output_norm: Norm the joined heads before the gate and the output matrix: ``layer``, ``rms`` or None.
        gated: Multiply the joined heads by ``sigmoid(Wg q)``.
        eps: Added to the variance in every norm; left out: 1e-5 for ``layer``, the smallest float for ``rms``.
        dropout: Probability of dropping an attention weight in training.

    Shape:
        ``(N, L, C)`` to ``(N, L, out_dim)``; ``mask`` ``(N, L)`` is boolean, True = may attend; a fully masked row
        reads zeros.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim`` and ``head_dim`` is left out; an unknown norm.

    Source:
        Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929, appendix A.
        Reference: timm 1.0.31, timm/layers/attention.py.
        Deviations: masks are boolean only; no dropout after the output.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        head_dim: int | None = None,
        out_dim: int | None = None,
        bias: bool = False,
        output_bias: bool = True,
        qk_norm: Norm | None = None,
        output_norm: Norm | None = None,
        gated: bool = False,
        eps: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive("ViTAttention", embed_dim=embed_dim, num_heads=num_heads, head_dim=head_dim, out_dim=out_dim)
        if head_dim is None:
            check_heads("ViTAttention", embed_dim, num_heads)
        head_dim = head_dim or embed_dim // num_heads
        width = num_heads * head_dim
        self.num_heads, self.dropout = num_heads, dropout
        self.qkv = nn.Linear(embed_dim, 3 * width, bias=bias)
        self.query_norm = _norm("qk_norm", qk_norm, head_dim, eps)
        self.key_norm = _norm("qk_norm", qk_norm, head_dim, eps)
        self.output_norm = _norm("output_norm", output_norm, width, eps)
        self.gate = nn.Linear(embed_dim, width, bias=bias) if gated else None
        self.output = nn.Linear(width, out_dim or embed_dim, bias=output_bias)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Initialise as timm's vision transformers do: truncated normal of deviation 0.02, biases zero."""
        for module in (self.qkv, self.gate, self.output):
            if module is not None:
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return for each token what its heads read from all visible tokens."""
        query_nhld, key_nhld, value_nhld = self._project(query_nlc)
        read_nhld = attend(
            query_nhld,
            key_nhld,
            value_nhld,
            visible=visibility(query_nhld, key_nhld, mask_nm=mask_nl),
            dropout=self.dropout if self.training else 0.0,
        )
        joined_nlc = merge_heads(read_nhld)
        if self.output_norm is not None:
            joined_nlc = self.output_norm(joined_nlc)
        if self.gate is not None:
            joined_nlc = joined_nlc * torch.sigmoid(self.gate(query_nlc))
        output_nlc: Tensor = self.output(joined_nlc)
        return output_nlc

    def attention(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, heads, L, L)``."""
        query_nhld, key_nhld, _ = self._project(query_nlc)
        visible = visibility(query_nhld, key_nhld, mask_nm=mask_nl)
        return {"attention": attention_weights(query_nhld, key_nhld, visible=visible)}

    def _project(self, query_nlc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values ``(N, heads, L, head_dim)``, the former two normed."""
        projected = self.qkv(query_nlc).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query_nhld, key_nhld, value_nhld = projected.unbind(0)
        if self.query_norm is not None and self.key_norm is not None:
            query_nhld, key_nhld = self.query_norm(query_nhld), self.key_norm(key_nhld)
        return query_nhld, key_nhld, value_nhld


def _norm(argument: str, kind: Norm | None, width: int, eps: float | None) -> nn.Module | None:
    if kind is None:
        return None
    check_choice("ViTAttention", argument, kind, ("layer", "rms"))
    return nn.LayerNorm(width, eps=1e-5 if eps is None else eps) if kind == "layer" else nn.RMSNorm(width, eps=eps)
