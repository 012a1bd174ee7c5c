"""AFT-conv: AFT-local whose position biases depend on the distance and the head alone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.aft import apply_gate, band_weights, weighted_average
from attnzoo_sequence.ops.checks import check_heads, check_positive


class AFTConv(nn.Module):
    """Average values channel by channel, with a learned bias for each small distance and head.

    ``y_t = sigmoid(q_t) * sum_s exp(k_s + w_(s-t)) v_s / sum_s exp(k_s + w_(s-t))``, ``w`` learned for distances that
    the kernel covers, else 0: every token is still seen. Keys have one channel a head. ``out = out_proj(y)``

    Args:
        embed_dim: Width of the tokens.
        num_heads: Number of heads.
        kernel_size: Odd number of distances with a learned bias, centred on 0.

    Shape:
        Query ``(N, L, C)``, mask ``(N, L)`` with True = may attend, to ``(N, L, C)``. Where nothing may be attended the
        average is zero.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, or ``kernel_size`` is even or not positive.

    Source:
        Zhai et al., "An Attention Free Transformer", 2021, arXiv:2105.14103, eq. 4-5, for a sequence instead of an
        image. No authors' code. Deviations: no re-parameterisation of the kernel by a gain and a standardised filter.
    """

    def __init__(self, embed_dim: int, *, num_heads: int = 8, kernel_size: int = 11) -> None:
        super().__init__()
        check_heads("AFTConv", embed_dim, num_heads)
        check_positive("AFTConv", kernel_size=kernel_size)
        if kernel_size % 2 == 0:
            message = f"AFTConv: kernel_size={kernel_size} is even; take an odd one"
            raise ValueError(message)
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key = nn.Linear(embed_dim, num_heads)
        self.value = nn.Linear(embed_dim, embed_dim)
        self.position_bias = nn.Parameter(torch.zeros(num_heads, kernel_size))
        self.out_proj = nn.Linear(embed_dim, embed_dim)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does, and start without position biases."""
        reset_layers(self)
        nn.init.zeros_(self.position_bias)

    def _mix(self, x_nlr: Tensor) -> Tensor:
        """Return ``sum_s exp(w_(s-t)) x_s``, each channel over a factor."""
        repeat = x_nlr.shape[2] // self.num_heads
        all_r1, kernel_rk = (
            weight.to(x_nlr.dtype).repeat_interleave(repeat, dim=0) for weight in band_weights(self.position_bias)
        )
        kernel_r1k = kernel_rk[:, None]
        band = F.conv1d(x_nlr.transpose(1, 2), kernel_r1k, padding=kernel_r1k.shape[2] // 2, groups=kernel_r1k.shape[0])
        total: Tensor = x_nlr.sum(dim=1, keepdim=True) * all_r1[:, 0] + band.transpose(1, 2)
        return total

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return the attended tokens, ``(n, l, c)``."""
        key_nlc = self.key(query_nlc).repeat_interleave(query_nlc.shape[2] // self.num_heads, dim=2)
        average = weighted_average(key_nlc, self.value(query_nlc), mask_nl, self._mix)
        out: Tensor = self.out_proj(apply_gate(self.query(query_nlc), average))
        return out
