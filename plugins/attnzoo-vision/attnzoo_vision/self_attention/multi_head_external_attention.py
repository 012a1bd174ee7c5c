"""Multi-head external attention (EAMLP)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input, check_probability
from attnzoo_vision.ops.heads import merge_heads, split_heads


class MultiHeadExternalAttention(nn.Module):
    """Attend, in each of many narrow heads, to one learned memory that heads and samples share.

    ``u = W_in x`` in heads of width ``embed_dim / num_heads``; in each head ``a = softmax_l(K u + k)``,
    ``A = a / (1e-9 + sum_s a)``, ``v = V A + b``; ``y = W_out [v of all heads] + b_out``

    Args:
        embed_dim: Channels of a token.
        num_heads: Divisor of ``embed_dim`` that gives the width of a head; there are ``expansion * num_heads`` heads.
        expansion: How much wider than the input the heads are together.
        memory_size: Number of memory slots S.
        attention_dropout: Probability of dropping a weight, in training.
        dropout: Probability of dropping a number of the result, in training.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``; any L from 1 on.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, a size is below 1, or a probability is out of its
            range.

    Source:
        Guo et al., "Beyond Self-attention: External Attention using Two Linear Layers for Visual Tasks", TPAMI 2022,
        arXiv:2105.02358, section 3.3. Authors' code: github.com/MenghaoGuo/EANet @ 59c03cb,
        multi_head_attention_torch.py. Deviations: none; the biases of ``W_in`` and ``K`` cancel in the softmax and are
        kept because checkpoints hold them.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 8,
        expansion: int = 4,
        memory_size: int = 64,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        check_at_least("MultiHeadExternalAttention", 1, embed_dim=embed_dim, num_heads=num_heads)
        check_at_least("MultiHeadExternalAttention", 1, expansion=expansion, memory_size=memory_size)
        check_divides("MultiHeadExternalAttention", "num_heads", num_heads, "embed_dim", embed_dim)
        check_probability("MultiHeadExternalAttention", attention_dropout=attention_dropout, dropout=dropout)
        self.heads = expansion * num_heads
        self.attention_dropout, self.dropout = attention_dropout, dropout
        self.expand = nn.Linear(embed_dim, expansion * embed_dim)
        self.memory_key = nn.Linear(embed_dim // num_heads, memory_size)
        self.memory_value = nn.Linear(memory_size, embed_dim // num_heads)
        self.out = nn.Linear(expansion * embed_dim, embed_dim)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nlc: Tensor) -> Tensor:
        """Return what each token reads from the memory."""
        position_ngls = self._position_weights(x_nlc)
        total_ngl1 = _total(position_ngls)
        position_ngls = F.dropout(position_ngls, self.attention_dropout, self.training)
        # divided after the product, the values are fewer
        weight_ds, bias_d = affine(self.memory_value).filled()
        value_ngld = F.linear(position_ngls, weight_ds) / total_ngl1 + bias_d
        return F.dropout(self.out(merge_heads(value_ngld)), self.dropout, self.training)

    def attention(self, x_nlc: Tensor) -> dict[str, Tensor]:
        """Return ``memory``, the weight of each slot for each head and token."""
        position_ngls = self._position_weights(x_nlc)
        return {"memory": position_ngls / _total(position_ngls)}

    def _position_weights(self, x_nlc: Tensor) -> Tensor:
        """Return the softmax over the tokens, ``(N, heads, L, slots)``; a head's weights lie side by side for it."""
        check_input("MultiHeadExternalAttention", x_nlc, self.embed_dim, "NLC", argument="embed_dim")
        return torch.softmax(self.memory_key(split_heads(self.expand(x_nlc), self.heads)), dim=2)


def _total(position_ngls: Tensor) -> Tensor:
    return 1e-9 + position_ngls.sum(dim=3, keepdim=True)
