"""Attention pooling with rotary positions: one token attends to all pixels."""

import torch
from torch import Tensor, nn

from attnzoo.layers import Affine, affine, reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input, check_probability
from attnzoo_vision.ops.heads import attend_heads, attention_map, merge_heads, project_heads, split_heads
from attnzoo_vision.ops.sizes import pair
from attnzoo_vision.ops.token_pool import (
    join_lead,
    lead_query,
    lead_token,
    lead_values,
    split_projection,
    without_lead,
)
from attnzoo_vision.ops.tokens import project


class RotAttentionPool2d(nn.Module):
    """Pool a map by multi-head attention from the mean of its pixels, with queries and keys rotated by their place.

    ``y = W_o softmax(q_0 (R K)^T / sqrt(d)) V + b_o`` over the tokens ``[mean(x), x_1, ..., x_HW]``; pixel (y, x) turns
    pair f of a head by ``y' f_i`` or ``x' f_i``, ``f_i = 10000^(-4 i / d)``, with its place scaled to the reference.
    The token is not turned. Values are never computed: the weighted tokens are projected.

    Args:
        channels: Channels of the input.
        reference_size: Height and width at which a place is its pixel; one number for both.
        embed_dim: Width of queries, keys and values of all heads; ``channels`` if left out.
        out_channels: Numbers of the output; ``channels`` if left out; 0 leaves out the last projection.
        num_heads: Heads; their width must be divisible by 4.
        bias: Give queries, keys and values a bias.
        class_token: Learn the token that attends, instead of the mean.
        pool: Without, all tokens attend, and the map without the token is returned.
        dropout: Probability of dropping an element in front of the last projection.

    Shape:
        ``(N, C, H, W)`` to ``(N, out_channels)``, without ``pool`` to ``(N, out_channels, H, W)``; any H, W from 1 on.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim`` into heads of a width divisible by 4, or a size is too
            small.

    Source:
        Wightman, timm 1.0.31, timm/layers/attention_pool2d.py, class RotAttentionPool2d, after the pooling of CLIP
        (Radford et al., ICML 2021, arXiv:2103.00020). Deviations: one projection for queries, keys and values; the
        order of products with values; the numbers are the same.
    """

    def __init__(
        self,
        channels: int,
        reference_size: int | list[int] = 7,
        *,
        embed_dim: int | None = None,
        out_channels: int | None = None,
        num_heads: int = 8,
        bias: bool = True,
        class_token: bool = False,
        pool: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels = channels
        name = "RotAttentionPool2d"
        check_at_least(
            name, 1, channels=channels, reference_size=reference_size, embed_dim=embed_dim, num_heads=num_heads
        )
        check_at_least(name, 0, out_channels=out_channels)
        width = channels if embed_dim is None else embed_dim
        check_divides(name, "num_heads", num_heads, "embed_dim", width, factor=4)
        check_probability(name, dropout=dropout)
        self.num_heads, self.pool = num_heads, pool
        self.reference_size = pair(name, "reference_size", reference_size)
        self.scale = (width // num_heads) ** -0.5
        self.class_token = nn.Parameter(torch.empty(1, channels)) if class_token else None
        self.qkv = nn.Linear(channels, 3 * width, bias=bias)
        self.dropout = nn.Dropout(dropout)
        out = channels if out_channels is None else out_channels
        self.projection = nn.Linear(width, out) if out else nn.Identity()
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Draw the projections of queries, keys and values by the number of channels, as timm does in its models."""
        nn.init.trunc_normal_(self.qkv.weight, std=self.qkv.in_features**-0.5)
        if self.qkv.bias is not None:
            nn.init.zeros_(self.qkv.bias)
        if self.class_token is not None:
            nn.init.zeros_(self.class_token)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the pooled values."""
        check_input("RotAttentionPool2d", x_nchw, self.channels)
        lead_nc = lead_token(x_nchw, self.class_token)
        if self.pool:
            query, key, value = split_projection(affine(self.qkv))
            weight_ngl = self._lead_weights(lead_nc, x_nchw, query, key)
            y_no: Tensor = self.projection(self.dropout(lead_values(weight_ngl, lead_nc, x_nchw.flatten(2), value)))
            return y_no
        query_ngld, key_ngld, value_ngld = self._heads(lead_nc, x_nchw)
        y_nle = merge_heads(attend_heads(query_ngld, key_ngld, value_ngld, scale=self.scale))
        y_nlo: Tensor = self.projection(self.dropout(y_nle))
        return without_lead(y_nlo, x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``pairwise``, the weights of the tokens (the pixels behind the leading one) for the attending ones."""
        check_input("RotAttentionPool2d", x_nchw, self.channels)
        lead_nc = lead_token(x_nchw, self.class_token)
        if self.pool:
            query, key, _ = split_projection(affine(self.qkv))
            return {"pairwise": self._lead_weights(lead_nc, x_nchw, query, key).unsqueeze(2)}
        query_ngld, key_ngld, _ = self._heads(lead_nc, x_nchw)
        return {"pairwise": attention_map(query_ngld, key_ngld, scale=self.scale)}

    def _lead_weights(self, lead_nc: Tensor, x_nchw: Tensor, query: Affine, key: Affine) -> Tensor:
        query_ngd = lead_query(lead_nc, query, self.num_heads)
        lead_key_ngd = nn.functional.linear(lead_nc, *key).unflatten(1, (self.num_heads, -1))
        key_ngld = self._rotated(split_heads(project(x_nchw, *key), self.num_heads), x_nchw)
        lead_logit_ng1 = (lead_key_ngd * query_ngd).sum(dim=2, keepdim=True)
        logits_ngl = torch.matmul(key_ngld, query_ngd.unsqueeze(3)).squeeze(3)
        return torch.softmax(torch.cat([lead_logit_ng1, logits_ngl], dim=2), dim=2)

    def _heads(self, lead_nc: Tensor, x_nchw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens_nlc = join_lead(lead_nc, x_nchw.flatten(2))
        query, key, value = project_heads(tokens_nlc, self.qkv, self.num_heads)
        return self._behind_lead(query, x_nchw), self._behind_lead(key, x_nchw), value

    def _behind_lead(self, token_ngld: Tensor, x_nchw: Tensor) -> Tensor:
        """Turn all tokens but the first."""
        return torch.cat([token_ngld[:, :, :1], self._rotated(token_ngld[:, :, 1:], x_nchw)], dim=2)

    def _rotated(self, pixel_ngld: Tensor, x_nchw: Tensor) -> Tensor:
        """Turn neighbouring pairs of numbers by the angles of their pixels."""
        angle_lf = self._angles(x_nchw.shape[2], x_nchw.shape[3], pixel_ngld)
        cosine_lf, sine_lf = angle_lf.cos().to(pixel_ngld.dtype), angle_lf.sin().to(pixel_ngld.dtype)
        even, odd = pixel_ngld[..., 0::2], pixel_ngld[..., 1::2]
        turned = torch.stack([even * cosine_lf - odd * sine_lf, odd * cosine_lf + even * sine_lf], dim=4)
        return turned.flatten(3)

    def _angles(self, height: int, width: int, like_ngld: Tensor) -> Tensor:
        """Return ``(H * W, D / 2)``: the angles by the row, then those by the column."""
        exact = torch.float64 if like_ngld.dtype == torch.float64 else torch.float32
        bands = like_ngld.shape[3] // 4
        exponent_b = torch.arange(bands, device=like_ngld.device, dtype=exact) / bands
        frequency_b = 1.0 / 10000.0**exponent_b
        row_h = torch.arange(height, device=like_ngld.device, dtype=exact) / height * self.reference_size[0]
        column_w = torch.arange(width, device=like_ngld.device, dtype=exact) / width * self.reference_size[1]
        row_hwb = (row_h[:, None] * frequency_b)[:, None].expand(-1, width, -1)
        column_hwb = (column_w[:, None] * frequency_b)[None].expand(height, -1, -1)
        return torch.cat([row_hwb, column_hwb], dim=2).flatten(0, 1)
