"""Nystrom attention: softmax attention rebuilt from a few landmark tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.attend import attend, masked_softmax, merge_heads, split_heads
from attnzoo_sequence.ops.checks import check_heads, check_positive
from attnzoo_sequence.ops.masks import check_key_mask


class NystromAttention(nn.Module):
    """Approximate softmax attention by its values at a few landmarks, in time linear in the length.

    ``out = F Z (B v) + conv(v)``; landmarks ``q~, k~`` are means of consecutive tokens, ``F = softmax(q k~^T /
    sqrt(d))``, ``A = softmax(q~ k~^T / sqrt(d))``, ``B = softmax(q~ k^T / sqrt(d))`` and ``Z`` is the pseudo-inverse of
    ``A`` by ``Z <- Z / 4 (13 I - AZ (15 I - AZ (7 I - AZ)))`` from ``Z = A^T / max column sum``. ``conv`` is depthwise
    along the sequence, one filter a head. With as many landmarks as tokens, attention is exact.

    Args:
        embed_dim: Width of the tokens.
        num_heads: Number of heads.
        num_landmarks: Landmarks; a sequence that they do not divide has a shorter last segment.
        conv_kernel_size: Odd length of the filter over the values; None: no convolution.
        pinv_iterations: Iterations of the pseudo-inverse.

    Shape:
        Query ``(N, L, C)``, mask ``(N, L)`` with True = may attend, to ``(N, L, C)``; any L from 1 on.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, ``conv_kernel_size`` is even, or ``num_landmarks`` is
        not
            positive.

    Source:
        Xiong et al., "Nystromformer: A Nystrom-Based Algorithm for Approximating Self-Attention", AAAI 2021,
        arXiv:2102.03902, eq. 13-15. Authors' code: github.com/mlpen/Nystromformer @ 5689313, code/attention_nystrom.py.
        Deviations: the pseudo-inverse starts from the largest column sum of each head and sample; the authors take one
        over the whole batch, which mixes samples. A mask is respected everywhere: landmarks are means of visible
        tokens.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 8,
        num_landmarks: int = 64,
        conv_kernel_size: int | None = 65,
        pinv_iterations: int = 6,
    ) -> None:
        super().__init__()
        check_heads("NystromAttention", embed_dim, num_heads)
        check_positive("NystromAttention", num_landmarks=num_landmarks, conv_kernel_size=conv_kernel_size)
        check_positive("NystromAttention", pinv_iterations=pinv_iterations)
        if conv_kernel_size is not None and conv_kernel_size % 2 == 0:
            message = f"NystromAttention: conv_kernel_size={conv_kernel_size} is even; take an odd one"
            raise ValueError(message)
        self.num_heads = num_heads
        self.num_landmarks = num_landmarks
        self.pinv_iterations = pinv_iterations
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key = nn.Linear(embed_dim, embed_dim)
        self.value = nn.Linear(embed_dim, embed_dim)
        self.conv = None
        if conv_kernel_size is not None:
            shape, padding = (conv_kernel_size, 1), (conv_kernel_size // 2, 0)
            self.conv = nn.Conv2d(num_heads, num_heads, shape, padding=padding, groups=num_heads, bias=False)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Draw the projections from N(0, 0.02^2), biases zero."""
        for linear in (self.query, self.key, self.value):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def _landmarks(self, x_nhld: Tensor, mask_nl: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the means of the visible tokens of each segment, and which segments have any."""
        length = x_nhld.shape[2]
        segment = -(-length // self.num_landmarks)
        padding = -length % segment
        if mask_nl is None and not padding:
            return x_nhld.unflatten(2, (-1, segment)).sum(3) / segment, None
        visible_nl = x_nhld.new_ones(x_nhld.shape[0], length, dtype=torch.bool) if mask_nl is None else mask_nl
        visible_n1l1 = F.pad(visible_nl, (0, padding))[:, None, :, None]
        x_nhld = F.pad(x_nhld, (0, 0, 0, padding)).masked_fill(~visible_n1l1, 0.0)
        count_n1k1 = visible_n1l1.unflatten(2, (-1, segment)).sum(3)
        landmark = x_nhld.unflatten(2, (-1, segment)).sum(3) / count_n1k1.clamp(min=1)
        return landmark, count_n1k1[..., 0] > 0

    def _kernels(self, query: Tensor, key: Tensor, mask_nl: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return ``F Z``, the query landmarks, and the mask of the keys."""
        query_nhkd, alive = self._landmarks(query, mask_nl)
        key_nhkd, _ = self._landmarks(key, mask_nl)
        visible = None if alive is None else alive[:, :, None, :]
        front_nhlk = masked_softmax(query @ key_nhkd.transpose(-2, -1), visible)
        middle_nhkk = masked_softmax(query_nhkd @ key_nhkd.transpose(-2, -1), visible)
        if alive is not None:
            middle_nhkk = middle_nhkk * alive[..., None]
        keys = None if mask_nl is None else mask_nl[:, None, None, :]
        return front_nhlk @ _pseudo_inverse(middle_nhkk, self.pinv_iterations), query_nhkd, keys

    def _project(self, query_nlc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries and keys, each scaled by ``d^(-1/4)``, and values, by heads."""
        query, key, value = (split_heads(p(query_nlc), self.num_heads) for p in (self.query, self.key, self.value))
        scale = query.shape[-1] ** -0.25
        return query * scale, key * scale, value

    def forward(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> Tensor:
        """Return the attended tokens, ``(n, l, c)``; there is no output projection."""
        check_key_mask(mask_nl, query_nlc)
        if not query_nlc.shape[1]:
            return torch.zeros_like(query_nlc)
        query, key, value = self._project(query_nlc)
        if self.num_landmarks >= query_nlc.shape[1]:
            keys = None if mask_nl is None else mask_nl[:, None, None, :]
            out = attend(query, key, value, visible=keys, scale=1.0)
        else:
            front, query_nhkd, keys = self._kernels(query, key, mask_nl)
            out = front @ attend(query_nhkd, key, value, visible=keys, scale=1.0)
        if self.conv is not None:
            if mask_nl is not None:
                value = value.masked_fill(~mask_nl[:, None, :, None], 0.0)
            out = out + self.conv(value)
        return merge_heads(out)

    def attention(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return the rebuilt weights, ``(n, h, l, l)``; rows sum to about one and entries may be slightly negative."""
        check_key_mask(mask_nl, query_nlc)
        query, key, _ = self._project(query_nlc)
        keys = None if mask_nl is None else mask_nl[:, None, None, :]
        if self.num_landmarks >= query_nlc.shape[1]:
            return {"attention": masked_softmax(query @ key.transpose(-2, -1), keys)}
        front, query_nhkd, keys = self._kernels(query, key, mask_nl)
        return {"attention": front @ masked_softmax(query_nhkd @ key.transpose(-2, -1), keys)}


def _pseudo_inverse(a: Tensor, iterations: int) -> Tensor:
    """Return the pseudo-inverse of stochastic matrices ``(..., k, k)`` by a third-order iteration."""
    identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    largest = a.sum(dim=-2).amax(dim=-1)[..., None, None]
    z = a.transpose(-2, -1) / largest.clamp(min=torch.finfo(a.dtype).tiny)
    for _ in range(iterations):
        az = a @ z
        z = 0.25 * z @ (13 * identity - az @ (15 * identity - az @ (7 * identity - az)))
    return z
