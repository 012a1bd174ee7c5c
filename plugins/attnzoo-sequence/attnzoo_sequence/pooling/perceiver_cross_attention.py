"""Perceiver cross-attention: a few latents read from a long input."""

import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_sequence.ops.attend import attention_weights, merge_heads, split_heads
from attnzoo_sequence.ops.checks import check_divides, check_positive
from attnzoo_sequence.ops.masks import check_key_mask
from attnzoo_sequence.ops.uneven import attend_uneven


class PerceiverCrossAttention(nn.Module):
    """Let latents attend to an input of any length and width, then apply an MLP, both with residuals.

    ``y = z + out_proj(softmax(q k^T / sqrt(d)) v)`` with ``q`` from ``LayerNorm(z)``, ``k`` and ``v`` from
    ``LayerNorm(x)``; ``out = y + W2 gelu(W1 LayerNorm(y))``. The residual adds the latents before their norm.

    Args:
        embed_dim: Width of the latents.
        source_dim: Width of the input.
        num_heads: Number of heads.
        key_channels: Channels of queries and keys, all heads together; None: ``source_dim``.
        value_channels: Channels of the values, all heads together; None: ``key_channels``.
        mlp_ratio: Width of the hidden layer over ``embed_dim``.
        query_residual: Whether the latents are added to what they read (the decoder of Perceiver IO: not).

    Shape:
        Query (latents) ``(N, L, C)``, key (input) ``(N, M, S)``, mask ``(N, M)`` with True = may attend, to ``(N, L,
        C)``. A latent that may attend to nothing reads zeros.

    Raises:
        ValueError: ``num_heads`` does not divide ``key_channels`` or ``value_channels``.

    Source:
        Jaegle et al., "Perceiver: General Perception with Iterative Attention", ICML 2021, arXiv:2103.03206, section 3
        and "Perceiver IO", ICLR 2022, arXiv:2107.14795. Authors' code: github.com/google-deepmind/deepmind-research @
        f5de0ed, perceiver/perceiver.py. Deviations: none known.
    """

    def __init__(
        self,
        embed_dim: int,
        source_dim: int,
        *,
        num_heads: int = 1,
        key_channels: int | None = None,
        value_channels: int | None = None,
        mlp_ratio: int = 1,
        query_residual: bool = True,
    ) -> None:
        super().__init__()
        check_positive("PerceiverCrossAttention", embed_dim=embed_dim, source_dim=source_dim, num_heads=num_heads)
        check_positive("PerceiverCrossAttention", mlp_ratio=mlp_ratio, key_channels=key_channels)
        check_positive("PerceiverCrossAttention", value_channels=value_channels)
        keys = source_dim if key_channels is None else key_channels
        values = keys if value_channels is None else value_channels
        check_divides("PerceiverCrossAttention", "num_heads", num_heads, "key_channels", keys)
        check_divides("PerceiverCrossAttention", "num_heads", num_heads, "value_channels", values)
        self.num_heads = num_heads
        self.query_residual = query_residual
        self.query_norm = nn.LayerNorm(embed_dim)
        self.source_norm = nn.LayerNorm(source_dim)
        self.query = nn.Linear(embed_dim, keys)
        self.key = nn.Linear(source_dim, keys)
        self.value = nn.Linear(source_dim, values)
        self.out_proj = nn.Linear(values, embed_dim)
        self.mlp_norm = nn.LayerNorm(embed_dim)
        self.mlp_in = nn.Linear(embed_dim, mlp_ratio * embed_dim)
        self.mlp_out = nn.Linear(mlp_ratio * embed_dim, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights from a truncated normal with variance ``1 / fan_in``, biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                std = module.in_features**-0.5 / 0.87962566  # standard deviation of a normal cut at two
                nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def forward(self, query_nlc: Tensor, key_nms: Tensor, mask_nm: Tensor | None = None) -> Tensor:
        """Return the latents after they read the input, ``(n, l, c)``."""
        source = self.source_norm(key_nms)
        query, key, value = (
            split_heads(x, self.num_heads)
            for x in (self.query(self.query_norm(query_nlc)), self.key(source), self.value(source))
        )
        check_key_mask(mask_nm, key_nms)
        visible = None if mask_nm is None else mask_nm[:, None, None, :]
        out: Tensor = self.out_proj(merge_heads(attend_uneven(query, key, value, visible=visible)))
        if self.query_residual:
            out = query_nlc + out
        out = out + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(out))))
        return out

    def attention(self, query_nlc: Tensor, key_nms: Tensor, mask_nm: Tensor | None = None) -> dict[str, Tensor]:
        """Return the weights, ``(n, h, l, m)``."""
        query = split_heads(self.query(self.query_norm(query_nlc)), self.num_heads)
        key = split_heads(self.key(self.source_norm(key_nms)), self.num_heads)
        check_key_mask(mask_nm, key_nms)
        visible = None if mask_nm is None else mask_nm[:, None, None, :]
        return {"attention": attention_weights(query, key, visible=visible)}
