"""AFT-local: AFT-full whose position biases are learned near the diagonal and zero elsewhere."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.aft import apply_gate, band_weights, weighted_average
from attnzoo_sequence.ops.checks import check_positive

_SMALLEST_BLOCK = 32


class AFTLocal(nn.Module):
    """Average values channel by channel; near pairs of positions have a learned bias, all others none.

    ``y_t = sigmoid(q_t) * sum_s exp(k_s + w_ts) v_s / sum_s exp(k_s + w_ts)``, ``w_ts`` learned where ``|t - s| <
    window_size``, else 0: every token is still seen. ``out = out_proj(y)``

    Args:
        embed_dim: Width of the tokens.
        max_len: Longest sequence.
        window_size: Reach of the learned biases, itself included.
        hidden_channels: Channels of query, key and value.
        causal: Whether token ``t`` sees only ``s <= t``.

    Shape:
        Query ``(N, L, C)``, mask ``(N, L)`` with True = may attend, to ``(N, L, C)``; L up to ``max_len``. Where
        nothing may be attended the average is zero.

    Raises:
        ValueError: a size is not positive, or (in forward) the sequence is too long.

    Source:
        Zhai et al., "An Attention Free Transformer", 2021, arXiv:2105.14103, eq. 3. No authors' code.
        Deviations: only the band of ``w`` is stored, ``position_bias[t, s - t + window_size - 1]``; the sum over all
        tokens and the correction ``exp(w) - 1`` of the band are formed apart, in memory linear in the length.
    """

    def __init__(
        self, embed_dim: int, max_len: int, *, window_size: int = 256, hidden_channels: int = 64, causal: bool = False
    ) -> None:
        super().__init__()
        check_positive("AFTLocal", embed_dim=embed_dim, max_len=max_len, window_size=window_size)
        check_positive("AFTLocal", hidden_channels=hidden_channels)
        self.max_len = max_len
        self.reach = window_size - 1
        self.causal = causal
        self.query = nn.Linear(embed_dim, hidden_channels)
        self.key = nn.Linear(embed_dim, hidden_channels)
        self.value = nn.Linear(embed_dim, hidden_channels)
        self.position_bias = nn.Parameter(torch.empty(max_len, (1 if causal else 2) * self.reach + 1))
        self.out_proj = nn.Linear(hidden_channels, embed_dim)
        nn.init.xavier_uniform_(self.position_bias)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does, and the position biases by Glorot's uniform rule."""
        reset_layers(self)
        nn.init.xavier_uniform_(self.position_bias)

    def _biases(self, length: int) -> Tensor:
        """Return the learned biases of the first positions, 0 where the pair leaves the sequence."""
        bias_lw = self.position_bias[:length]
        other_lw = torch.arange(length, device=bias_lw.device)[:, None] + torch.arange(
            -self.reach, bias_lw.shape[1] - self.reach, device=bias_lw.device
        )
        return bias_lw.masked_fill((other_lw < 0) | (other_lw >= length), 0.0)

    def _mix(self, all_l1: Tensor, extra_lw: Tensor, x_nlr: Tensor) -> Tensor:
        """Return ``sum_s exp(w_ts) x_s``, over a factor of the row: all tokens once, and the band again."""
        reach = self.reach
        all_l1, extra_lw = all_l1.to(x_nlr.dtype), extra_lw.to(x_nlr.dtype)
        everything = torch.cumsum(x_nlr, dim=1) if self.causal else x_nlr.sum(dim=1, keepdim=True)
        padded = F.pad(x_nlr, (0, 0, reach, 0 if self.causal else reach))
        return torch.addcmul(_multiply_band(extra_lw, padded), all_l1, everything)

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return the attended tokens, ``(n, l, c)``."""
        if query_nlc.shape[1] > self.max_len:
            found = query_nlc.shape[1]
            message = f"AFTLocal: {found} tokens are more than max_len={self.max_len}; build it with a larger max_len"
            raise ValueError(message)
        mix = partial(self._mix, *band_weights(self._biases(query_nlc.shape[1])))
        average = weighted_average(self.key(query_nlc), self.value(query_nlc), mask_nl, mix)
        out: Tensor = self.out_proj(apply_gate(self.query(query_nlc), average))
        return out


def _multiply_band(band_lw: Tensor, padded_nmr: Tensor) -> Tensor:
    """Return ``sum_j band[t, j] padded[t + j]`` for each row ``t``, by matrix products of blocks of rows.

    A block of ``b`` rows reads ``b + w - 1`` tokens; its matrix holds row ``i`` of the band, moved right by ``i``.
    """
    length, width = band_lw.shape
    block = min(max(width // 2, _SMALLEST_BLOCK), length)
    missing = -length % block
    rows_kbw = F.pad(band_lw, (0, block, 0, missing)).unflatten(0, (-1, block))
    reach = block + width - 1
    matrix_kbj = rows_kbw.flatten(1)[:, : block * reach].unflatten(1, (block, reach))
    window_nkrj = F.pad(padded_nmr, (0, 0, 0, missing)).unfold(1, reach, block)
    product_nkbr = matrix_kbj @ window_nkrj.transpose(-2, -1)
    product_nlr: Tensor = product_nkbr.flatten(1, 2)[:, :length]
    return product_nlr
