"""AFT-full: values averaged channel by channel with weights ``exp(key + position bias)``."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.aft import apply_gate, weighted_average
from attnzoo_sequence.ops.checks import check_positive


class AFTFull(nn.Module):
    """Average values channel by channel with weights that add a key to a learned bias of the pair of positions.

    ``y_t = sigmoid(q_t) * sum_s exp(k_s + w_ts) v_s / sum_s exp(k_s + w_ts)``; ``out = out_proj(y)``

    Args:
        embed_dim: Width of the tokens.
        max_len: Longest sequence; ``w`` is ``(max_len, max_len)`` and shorter sequences use its upper left corner.
        hidden_channels: Channels of query, key and value.
        causal: Whether token ``t`` sees only ``s <= t``.

    Shape:
        Query ``(N, L, C)``, mask ``(N, L)`` with True = may attend, to ``(N, L, C)``; L up to ``max_len``. Where
        nothing may be attended the average is zero.

    Raises:
        ValueError: ``max_len`` or ``hidden_channels`` is not positive, or (in forward) the sequence is too long.

    Source:
        Zhai et al., "An Attention Free Transformer", 2021, arXiv:2105.14103, eq. 2. No authors' code; key names of
        github.com/rish-16/aft-pytorch @ 9a89696.
        Deviations: keys are shifted by their largest value and biases normalised, which cancels; two matrix products,
        no (L, L, C) tensor.
    """

    def __init__(self, embed_dim: int, max_len: int, *, hidden_channels: int = 64, causal: bool = False) -> None:
        super().__init__()
        check_positive("AFTFull", embed_dim=embed_dim, max_len=max_len, hidden_channels=hidden_channels)
        self.max_len = max_len
        self.causal = causal
        self.query = nn.Linear(embed_dim, hidden_channels)
        self.key = nn.Linear(embed_dim, hidden_channels)
        self.value = nn.Linear(embed_dim, hidden_channels)
        self.position_bias = nn.Parameter(torch.empty(max_len, max_len))
        self.out_proj = nn.Linear(hidden_channels, embed_dim)
        nn.init.xavier_uniform_(self.position_bias)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does, and the position biases by Glorot's uniform rule."""
        reset_layers(self)
        nn.init.xavier_uniform_(self.position_bias)

    def _pair_weight(self, length: int) -> Tensor:
        """Return ``exp(w)`` of the visible pairs, each row divided by its sum, which cancels."""
        if length > self.max_len:
            message = f"AFTFull: {length} tokens are more than max_len={self.max_len}; build it with a larger max_len"
            raise ValueError(message)
        bias_ls = self.position_bias[:length, :length]
        if self.causal:
            hidden_ls = torch.ones(length, length, dtype=torch.bool, device=bias_ls.device).triu(1)
            bias_ls = bias_ls.masked_fill(hidden_ls, -torch.inf)
        return bias_ls.softmax(dim=1)

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return the attended tokens, ``(n, l, c)``."""
        pair_ls = self._pair_weight(query_nlc.shape[1])
        key, value = self.key(query_nlc), self.value(query_nlc)
        average = weighted_average(key, value, mask_nl, lambda x_nsr: _mix(pair_ls.to(x_nsr.dtype), x_nsr))
        out: Tensor = self.out_proj(apply_gate(self.query(query_nlc), average))
        return out


def _mix(pair_ls: Tensor, x_nsr: Tensor) -> Tensor:
    """Return ``sum_s pair[t, s] x[s]``: one matrix product for the whole batch."""
    mixed_lnr: Tensor = (pair_ls @ x_nsr.transpose(0, 1).flatten(1)).unflatten(1, (x_nsr.shape[0], x_nsr.shape[2]))
    return mixed_lnr.transpose(0, 1)
