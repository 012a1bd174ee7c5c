"""Linformer: keys and values compressed along the sequence before attention."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.attend import attend, attention_weights, merge_heads, split_heads
from attnzoo_sequence.ops.checks import check_heads, check_positive
from attnzoo_sequence.ops.masks import check_key_mask


class Linformer(nn.Module):
    """Attend to a fixed number of learned mixtures of the tokens instead of to all tokens.

    ``out = out_proj(softmax(q (E k)^T / sqrt(d)) (F v))``; ``E`` and ``F`` mix the ``M`` keys into ``compressed_len``
    ones.

    Args:
        embed_dim: Width of the tokens.
        max_len: Longest sequence of keys; shorter ones use the first rows of ``E`` and ``F``.
        compressed_len: Number of mixtures.
        num_heads: Number of heads.
        head_dim: Channels of a head; None: ``embed_dim / num_heads``.
        single_kv_head: Whether all query heads read one key and value head.
        share_kv: Whether the values are the keys and ``F`` is ``E``.

    Shape:
        Query ``(N, L, C)``, key ``(N, M, C)`` (left out: the query), mask ``(N, M)`` with True = may attend, to ``(N,
        L, C)``; M up to ``max_len``. Hidden tokens add nothing to the mixtures.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, ``max_len`` or ``compressed_len`` is not positive, or
        (in
            forward) there are more than ``max_len`` keys.

    Source:
        Wang et al., "Linformer: Self-Attention with Linear Complexity", 2020, arXiv:2006.04768, eq. 7.
        Code: github.com/lucidrains/linformer @ 970e1c3, linformer/linformer.py (no biases on query, key, value).
        Deviations: sequences shorter than ``max_len`` are allowed, as in the authors' fairseq code, and a mask is
        respected (the authors drop it). Not causal: a mixture holds all tokens.
    """

    def __init__(
        self,
        embed_dim: int,
        max_len: int,
        *,
        compressed_len: int = 256,
        num_heads: int = 8,
        head_dim: int | None = None,
        single_kv_head: bool = False,
        share_kv: bool = False,
    ) -> None:
        super().__init__()
        check_heads("Linformer", embed_dim, num_heads)
        check_positive("Linformer", max_len=max_len, compressed_len=compressed_len, head_dim=head_dim)
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads if head_dim is None else head_dim
        self.max_len = max_len
        inner = self.head_dim * num_heads
        kv_dim = self.head_dim if single_kv_head else inner
        self.query = nn.Linear(embed_dim, inner, bias=False)
        self.key = nn.Linear(embed_dim, kv_dim, bias=False)
        self.value = None if share_kv else nn.Linear(embed_dim, kv_dim, bias=False)
        self.compress_key = nn.Parameter(torch.empty(max_len, compressed_len))
        self.compress_value = None if share_kv else nn.Parameter(torch.empty(max_len, compressed_len))
        self.out_proj = nn.Linear(inner, embed_dim)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Draw the mixtures uniformly within ``1 / sqrt(compressed_len)``."""
        bound = self.compress_key.shape[1] ** -0.5
        nn.init.uniform_(self.compress_key, -bound, bound)
        if self.compress_value is not None:
            nn.init.uniform_(self.compress_value, -bound, bound)

    def _mixtures(
        self, query_nlc: Tensor, key_nmc: Tensor | None, mask_nm: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries and the compressed keys and values, by heads."""
        source = query_nlc if key_nmc is None else key_nmc
        length = source.shape[1]
        if length > self.max_len:
            message = f"Linformer: {length} keys are more than max_len={self.max_len}; build it with a larger max_len"
            raise ValueError(message)
        check_key_mask(mask_nm, source)
        if mask_nm is not None:
            source = source.masked_fill(~mask_nm[..., None], 0.0)
        key_nkc = self.compress_key[:length].t() @ self.key(source)
        if self.value is None or self.compress_value is None:
            value_nkc = key_nkc
        else:
            value_nkc = self.compress_value[:length].t() @ self.value(source)
        kv_heads = key_nkc.shape[-1] // self.head_dim
        query = split_heads(self.query(query_nlc), self.num_heads)
        return query, split_heads(key_nkc, kv_heads), split_heads(value_nkc, kv_heads)

    def forward(self, query_nlc: Tensor, key_nmc: Tensor | None = None, mask_nm: Tensor | None = None) -> Tensor:
        """Return the attended tokens, ``(n, l, c)``."""
        query, key, value = self._mixtures(query_nlc, key_nmc, mask_nm)
        out: Tensor = self.out_proj(merge_heads(attend(query, key, value)))
        return out

    def attention(
        self, query_nlc: Tensor, key_nmc: Tensor | None = None, mask_nm: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the weights over the mixtures, ``(n, h, l, k)``."""
        query, key, _ = self._mixtures(query_nlc, key_nmc, mask_nm)
        return {"attention": attention_weights(query, key)}
