"""AFT-simple: values averaged channel by channel with weights ``exp(key)``, the same for every query."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.aft import apply_gate, weighted_average
from attnzoo_sequence.ops.checks import check_positive
from attnzoo_sequence.ops.masks import check_key_mask


class AFTSimple(nn.Module):
    """Average values channel by channel with weights ``exp(key)`` and gate the average by the query.

    ``y_t = sigmoid(q_t) * sum_s exp(k_s) v_s / sum_s exp(k_s)``; ``out = out_proj(y)``

    Args:
        embed_dim: Width of the tokens.
        hidden_channels: Channels of query, key and value.
        causal: Whether the sums of token ``t`` run over ``s <= t``.

    Shape:
        Query ``(N, L, C)``, mask ``(N, L)`` with True = may attend, to ``(N, L, C)``. Where nothing may be attended the
        average is zero.

    Raises:
        ValueError: ``embed_dim`` or ``hidden_channels`` is not positive.

    Source:
        Zhai et al., "An Attention Free Transformer", 2021, arXiv:2105.14103, section 3.2 (AFT-simple). No authors'
        code; key names of github.com/rish-16/aft-pytorch @ 9a89696. Deviations: exponents are shifted, which cancels.
    """

    def __init__(self, embed_dim: int, *, hidden_channels: int = 64, causal: bool = False) -> None:
        super().__init__()
        check_positive("AFTSimple", embed_dim=embed_dim, hidden_channels=hidden_channels)
        self.causal = causal
        self.query = nn.Linear(embed_dim, hidden_channels)
        self.key = nn.Linear(embed_dim, hidden_channels)
        self.value = nn.Linear(embed_dim, hidden_channels)
        self.out_proj = nn.Linear(hidden_channels, embed_dim)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return the attended tokens, ``(n, l, c)``."""
        key, value = self.key(query_nlc), self.value(query_nlc)
        if self.causal:
            average = weighted_average(key, value, mask_nl, lambda x_nlr: torch.cumsum(x_nlr, dim=1))
        else:
            average = _average_of_all(key, value, mask_nl)
        out: Tensor = self.out_proj(apply_gate(self.query(query_nlc), average))
        return out


def _average_of_all(key_nlr: Tensor, value_nlr: Tensor, mask_nl: Tensor | None) -> Tensor:
    """Return the one average ``(n, 1, r)``, by a softmax over the tokens; zero where none may be attended."""
    check_key_mask(mask_nl, key_nlr)
    if mask_nl is None:
        return (key_nlr.softmax(dim=1) * value_nlr).sum(dim=1, keepdim=True)
    hidden_nl1 = ~mask_nl[..., None]
    weight_nlr = key_nlr.masked_fill(hidden_nl1, torch.finfo(key_nlr.dtype).min).softmax(dim=1)
    return (weight_nlr.masked_fill(hidden_nl1, 0.0) * value_nlr).sum(dim=1, keepdim=True)
