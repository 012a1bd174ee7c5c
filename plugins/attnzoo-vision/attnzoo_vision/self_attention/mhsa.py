"""Multi-head self-attention of vision transformers."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_divides, check_input, check_probability
from attnzoo_vision.ops.heads import attend_heads, attention_map, merge_heads, project_heads


class MHSA(nn.Module):
    """Multi-head self-attention of tokens, with the options of vision transformers.

    ``y = W_o (gate * norm(softmax(norm(q) norm(k)^T / sqrt(d)) v)) + b_o``; norms and gate only where asked for,
    ``gate = sigmoid(W_g x + b_g)``.

    Args:
        embed_dim: Channels of the tokens.
        num_heads: Heads.
        head_dim: Width of a head; ``embed_dim // num_heads`` if left out.
        out_dim: Channels of the output; ``embed_dim`` if left out.
        bias: Give queries, keys, values and the gate a bias.
        out_bias: Give the output projection a bias.
        qk_norm: Normalise each query and key.
        value_norm: Normalise the attended values of all heads together.
        norm: Kind of these norms: ``layer`` or ``rms``.
        eps: Constant in the norms; left out, 1e-5 for ``layer`` and the smallest number of the type for ``rms``.
        gate: Multiply the attended values by a sigmoid gate from the token.
        causal: Let no token attend to a later one.
        attention_dropout: Probability of dropping an attention weight.
        dropout: Probability of dropping an element of the output.

    Shape:
        ``(N, L, C)`` to ``(N, L, out_dim)``. Optional ``mask`` ``(L, L)``, ``(N, L, L)`` or ``(N, heads, L, L)``, each
        axis also 1 for all: True where a query (row) may attend to a key (column); numbers are added to the logits. A
        query that may attend to nothing reads zeros.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, ``norm`` is unknown, a probability is out of its range,
            or ``mask`` has another shape.

    Source:
        Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929, eq. 5-8 (app. A).
        Code: timm 1.0.31, timm/layers/attention.py, class Attention.
        Deviations: none.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 8,
        head_dim: int | None = None,
        out_dim: int | None = None,
        bias: bool = True,
        out_bias: bool = True,
        qk_norm: bool = False,
        value_norm: bool = False,
        norm: Literal["layer", "rms"] = "layer",
        eps: float | None = None,
        gate: bool = False,
        causal: bool = False,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        name = "MHSA"
        check_at_least(name, 1, embed_dim=embed_dim, num_heads=num_heads, head_dim=head_dim, out_dim=out_dim)
        check_choice(name, "norm", norm, ("layer", "rms"))
        check_probability(name, attention_dropout=attention_dropout, dropout=dropout)
        if head_dim is None:
            check_divides(name, "num_heads", num_heads, "embed_dim", embed_dim)
        width = embed_dim // num_heads if head_dim is None else head_dim
        inner = num_heads * width
        self.num_heads, self.scale, self.attention_dropout = num_heads, width**-0.5, attention_dropout
        self.causal = causal
        self.qkv = nn.Linear(embed_dim, 3 * inner, bias=bias)
        self.query_norm = _norm(norm, width, eps) if qk_norm else nn.Identity()
        self.key_norm = _norm(norm, width, eps) if qk_norm else nn.Identity()
        self.value_norm = _norm(norm, inner, eps) if value_norm else nn.Identity()
        self.gate = nn.Linear(embed_dim, inner, bias=bias) if gate else None
        self.projection = nn.Linear(inner, embed_dim if out_dim is None else out_dim, bias=out_bias)
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nlc: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attended tokens."""
        query_ngld, key_ngld, value_ngld = self._heads(x_nlc)
        dropout = self.attention_dropout if self.training else 0.0
        y_ngld = attend_heads(
            query_ngld, key_ngld, value_ngld, scale=self.scale, bias=self._bias(x_nlc, mask), dropout=dropout
        )
        y_nle = self.value_norm(merge_heads(y_ngld))
        if self.gate is not None:
            y_nle = y_nle * torch.sigmoid(self.gate(x_nlc))
        y_nlo: Tensor = self.dropout(self.projection(y_nle))
        return y_nlo

    def attention(self, x_nlc: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``pairwise``, the weight of every token (column) for every token (row) in each head."""
        query_ngld, key_ngld, _ = self._heads(x_nlc)
        bias = self._bias(x_nlc, mask)
        if bias is None:
            return {"pairwise": attention_map(query_ngld, key_ngld, scale=self.scale)}
        if bias.dtype == torch.bool:
            bias = torch.zeros_like(bias, dtype=query_ngld.dtype).masked_fill(~bias, float("-inf"))
        closed = torch.isneginf(bias).all(dim=-1, keepdim=True)  # queries of no key
        bias = bias.masked_fill(closed, 0.0)
        weight_ngll = attention_map(query_ngld, key_ngld, scale=self.scale, bias=bias)
        return {"pairwise": weight_ngll.masked_fill(closed, 0.0)}

    def _bias(self, x_nlc: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return the mask, one for all heads with its missing axis, and without later tokens if ``causal``."""
        if mask is not None:
            self._check_mask(x_nlc, mask)
            mask = mask.unsqueeze(1) if mask.dim() == 3 else mask
        if not self.causal:
            return mask
        earlier_ll = torch.ones(x_nlc.shape[1], x_nlc.shape[1], dtype=torch.bool, device=x_nlc.device).tril()
        if mask is None:
            return earlier_ll
        if mask.dtype == torch.bool:
            return mask & earlier_ll
        return mask.masked_fill(~earlier_ll, float("-inf"))

    def _check_mask(self, x_nlc: Tensor, mask: Tensor) -> None:
        (samples, length, _), heads = x_nlc.shape, self.num_heads
        shapes = {2: (length, length), 3: (samples, length, length), 4: (samples, heads, length, length)}
        whole = shapes.get(mask.dim(), ())
        if not whole or any(size not in (1, full) for size, full in zip(mask.shape, whole, strict=True)):
            known = "(L, L), (N, L, L) or (N, heads, L, L)"
            message = f"MHSA: mask of shape {tuple(mask.shape)}, expected {known} with N={samples}, heads={heads} and "
            raise ValueError(message + f"L={length}; give it all axes, of size 1 where they do not matter")

    def _heads(self, x_nlc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        check_input("MHSA", x_nlc, self.embed_dim, "NLC", argument="embed_dim")
        query, key, value = project_heads(x_nlc, self.qkv, self.num_heads)
        return self.query_norm(query), self.key_norm(key), value


def _norm(kind: str, width: int, eps: float | None) -> nn.Module:
    if kind == "rms":
        return nn.RMSNorm(width, eps=eps)
    return nn.LayerNorm(width, eps=1e-5 if eps is None else eps)
