"""Causal grouped-query attention within a sliding window."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_sequence.multi_head.grouped_query_attention import GroupedQueryAttention
from attnzoo_sequence.ops.attend import attend, attention_weights, merge_heads, visibility
from attnzoo_sequence.ops.banded import banded_attend
from attnzoo_sequence.ops.checks import check_choice, check_positive


class SlidingWindowAttention(GroupedQueryAttention):
    """Grouped-query attention in which a token sees the last ``window_size`` tokens, itself included.

    ``head_h(i) = sum_j softmax_j(rot(q_h,i) . rot(k_g,j) / sqrt(d)) v_g,j`` over ``i - window_size < j <= i``

    Args:
        embed_dim: Width of the input and output.
        num_heads: Number of query heads.
        window_size: Number of tokens that a token sees, itself included.
        num_kv_heads: Number of key and value heads; left out: ``num_heads``.
        head_dim: Width of a head; left out: ``embed_dim / num_heads``.
        bias: Whether queries, keys and values have a bias.
        output_bias: Whether the output has a bias.
        rotary_base: Base of the rotary frequencies; None: positions are not told.
        rotary_layout: Pairs of channels, ``half`` or ``interleaved``.
        unseeing: What a token reads that sees no key, because all in its window are masked: ``zero``, or ``mean`` of
            all values, masked ones included, as transformers' eager form does.
        dropout: Probability of dropping an attention weight in training.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``; ``mask`` ``(N, L)`` is boolean, True = may attend. Time and memory grow with
        ``L * window_size``. ``decode`` takes new tokens and a cache of the last ``window_size`` tokens.

    Raises:
        ValueError: ``window_size`` is not positive, ``unseeing`` unknown; the refusals of grouped-query attention.

    Source:
        Jiang et al., "Mistral 7B", 2023, arXiv:2310.06825, section 2.
        Reference: transformers 5.23.0, models/mistral/modeling_mistral.py and masking_utils.py.
        Deviations: none; other libraries count the window differently (flash-attn: one less, x-transformers: one more).
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        window_size: int = 4096,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = False,
        output_bias: bool = False,
        rotary_base: float | None = 10000.0,
        rotary_layout: Literal["half", "interleaved"] = "half",
        unseeing: Literal["zero", "mean"] = "zero",
        dropout: float = 0.0,
    ) -> None:
        check_positive("SlidingWindowAttention", window_size=window_size)
        check_choice("SlidingWindowAttention", "unseeing", unseeing, ("zero", "mean"))
        super().__init__(
            embed_dim,
            num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            bias=bias,
            output_bias=output_bias,
            rotary_base=rotary_base,
            rotary_layout=rotary_layout,
            dropout=dropout,
        )
        self.window_size, self.unseeing = window_size, unseeing

    def attention(self, query_nlc: Tensor, mask_nl: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, num_heads, L, L)``, zero outside the window."""
        query_nhld, key_ngld, _ = self.project(query_nlc)
        visible = visibility(query_nhld, key_ngld, mask_nm=mask_nl, causal=True, window_size=self.window_size)
        weight_nhlm = attention_weights(query_nhld, key_ngld, visible=visible)
        if self.unseeing == "mean" and mask_nl is not None:
            unseeing_n1l1 = self._unseeing(mask_nl)[:, None, :, None]
            weight_nhlm = weight_nhlm.masked_fill(unseeing_n1l1, 1.0 / mask_nl.shape[1])
        return {"attention": weight_nhlm}

    def decode(self, query_nlc: Tensor, cache_n2gsd: Tensor | None = None, first: int = 0) -> tuple[Tensor, Tensor]:
        """Return the outputs of new tokens after those of a cache, and the cache of the last ``window_size`` tokens.

        The cache ``(N, 2, G, S, d)`` holds turned keys and values. ``first`` is the position of the first new token,
        the number of tokens fed before; start with none at 0. Fed in any pieces the outputs are those of one pass.
        """
        past = 0 if cache_n2gsd is None else cache_n2gsd.shape[3]
        if past != min(first, self.window_size):
            found = f"SlidingWindowAttention: a cache of {past} tokens at first={first}"
            message = f"{found}, expected {max(min(first, self.window_size), 0)}; pass on the cache of the last call"
            raise ValueError(message)
        query_nhld, key_ngld, value_ngld = self.project(query_nlc, first)
        grown_n2gmd = torch.stack([key_ngld, value_ngld], dim=1)
        if cache_n2gsd is not None:
            grown_n2gmd = torch.cat([cache_n2gsd, grown_n2gmd], dim=3)
        cache_n2gsd = grown_n2gmd[:, :, :, -self.window_size :]
        if not past:
            return self.output(merge_heads(self.read(query_nhld, key_ngld, value_ngld, None))), cache_n2gsd
        key_ngmd, value_ngmd = grown_n2gmd[:, :, :, 1 - self.window_size - query_nlc.shape[1] :].unbind(1)
        visible = visibility(query_nhld, key_ngmd, causal=True, window_size=self.window_size)
        read_nhld = attend(query_nhld, key_ngmd, value_ngmd, visible=visible)
        return self.output(merge_heads(read_nhld)), cache_n2gsd

    def read(self, query_nhld: Tensor, key_ngmd: Tensor, value_ngmd: Tensor, mask_nm: Tensor | None) -> Tensor:
        """Return what each query head reads, ``(N, H, L, d)``."""
        read_nhld = self._read_window(query_nhld, key_ngmd, value_ngmd, mask_nm)
        if self.unseeing == "zero" or mask_nm is None:
            return read_nhld
        mean_nhld = _even_read(query_nhld, key_ngmd, value_ngmd)
        return torch.where(self._unseeing(mask_nm)[:, None, :, None], mean_nhld, read_nhld)

    def _read_window(self, query_nhld: Tensor, key_ngmd: Tensor, value_ngmd: Tensor, mask_nm: Tensor | None) -> Tensor:
        """Long inputs are read in blocks of one window."""
        length, dropout = query_nhld.shape[2], self.dropout if self.training else 0.0
        if length > 2 * self.window_size:
            return banded_attend(query_nhld, key_ngmd, value_ngmd, self.window_size, mask_nl=mask_nm, dropout=dropout)
        if length <= self.window_size:
            return super().read(query_nhld, key_ngmd, value_ngmd, mask_nm)
        visible = visibility(query_nhld, key_ngmd, mask_nm=mask_nm, causal=True, window_size=self.window_size)
        return attend(query_nhld, key_ngmd, value_ngmd, visible=visible, dropout=dropout)

    def _unseeing(self, mask_nl: Tensor) -> Tensor:
        """Return ``(N, L)``, True for tokens without a visible key in their window."""
        seen_nl = mask_nl.long().cumsum(dim=1)
        before_nl = F.pad(seen_nl, (self.window_size, 0))[:, : mask_nl.shape[1]]
        return seen_nl == before_nl


def _even_read(query_nhld: Tensor, key_ngmd: Tensor, value_ngmd: Tensor) -> Tensor:
    """Return the mean of all values, with the gradients that a softmax at equal weights has.

    There a score ``s_j`` moves the mean by ``(v_j - mean) / m``. That is linear in the scores, so the keys are summed
    first and no ``(l, m)`` tensor is made.
    """
    repeats = query_nhld.shape[1] // key_ngmd.shape[1]
    key_nhmd, value_nhmd = key_ngmd.repeat_interleave(repeats, dim=1), value_ngmd.repeat_interleave(repeats, dim=1)
    mean_nh1d = value_nhmd.mean(dim=2, keepdim=True)
    slope_nhdd = key_nhmd.transpose(-2, -1) @ (value_nhmd - mean_nh1d).detach()
    moved_nhld = query_nhld @ slope_nhdd * (query_nhld.shape[-1] ** -0.5 / key_nhmd.shape[2])
    read_nhld: Tensor = mean_nh1d + (moved_nhld - moved_nhld.detach())
    return read_nhld
