"""Attention pooling of CLIP: one token attends to all pixels."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input, check_probability
from attnzoo_vision.ops.heads import attend_heads, attention_map, merge_heads, project_heads
from attnzoo_vision.ops.layout import is_channels_last
from attnzoo_vision.ops.sizes import pair
from attnzoo_vision.ops.token_pool import (
    join_lead,
    lead_token,
    lead_values,
    lead_weights,
    split_projection,
    without_lead,
)
from attnzoo_vision.ops.tokens import as_tokens


class AttentionPool2d(nn.Module):
    """Pool a map by multi-head attention from the mean of its pixels, with learned positions.

    ``y = W_o softmax(q_0 K^T / sqrt(d)) V + b_o`` over the tokens ``[mean(x), x_1, ..., x_HW] + position``. Neither
    keys nor values are computed: the query goes through the transposed key projection, the weighted tokens through
    the value projection.

    Args:
        channels: Channels of the input.
        feature_size: Height and width that the positions are made for; one number for both.
        embed_dim: Width of queries, keys and values of all heads; ``channels`` if left out.
        out_channels: Numbers of the output; ``channels`` if left out; 0 leaves out the last projection.
        num_heads: Heads.
        bias: Give queries, keys and values a bias.
        by_count: Take the positions as they are for every map of as many pixels as ``feature_size`` has, whatever its
            sides, as the authors' code does; else they are resized for every other size.
        class_token: Learn the token that attends, instead of the mean.
        pool: Without, all tokens attend, and the map without the token is returned.
        dropout: Probability of dropping an element in front of the last projection.

    Shape:
        ``(N, C, H, W)`` to ``(N, out_channels)``, without ``pool`` to ``(N, out_channels, H, W)``; any H and W from 1
        on (positions are resized bicubically).

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, a size is too small, or the input has other channels.

    Source:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
        arXiv:2103.00020, sec. 2.4. Authors' code: github.com/openai/CLIP @ d05afc4, clip/model.py, class
        AttentionPool2d; options as in timm 1.0.31, attention_pool2d.py.
        Deviations: one projection for queries, keys and values, in another order of products; same numbers.
    """

    def __init__(
        self,
        channels: int,
        feature_size: int | list[int] = 7,
        *,
        embed_dim: int | None = None,
        out_channels: int | None = None,
        num_heads: int = 8,
        bias: bool = True,
        by_count: bool = False,
        class_token: bool = False,
        pool: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels = channels
        name = "AttentionPool2d"
        check_at_least(name, 1, channels=channels, feature_size=feature_size, embed_dim=embed_dim, num_heads=num_heads)
        check_at_least(name, 0, out_channels=out_channels)
        width = channels if embed_dim is None else embed_dim
        check_divides(name, "num_heads", num_heads, "embed_dim", width)
        check_probability(name, dropout=dropout)
        self.num_heads, self.pool = num_heads, pool
        self.feature_size = pair(name, "feature_size", feature_size)
        self.by_count = by_count
        self.class_token = nn.Parameter(torch.empty(1, channels)) if class_token else None
        self.position = nn.Parameter(torch.empty(1 + self.feature_size[0] * self.feature_size[1], channels))
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
        """Draw positions and projections by the number of channels."""
        std = self.qkv.in_features**-0.5
        nn.init.trunc_normal_(self.qkv.weight, std=std)
        nn.init.trunc_normal_(self.position, std=std)
        if self.qkv.bias is not None:
            nn.init.zeros_(self.qkv.bias)
        if self.class_token is not None:
            nn.init.zeros_(self.class_token)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the pooled values."""
        lead_nc, pixel_ncl = self._tokens(x_nchw)
        if self.pool:
            query, key, value = split_projection(affine(self.qkv))
            weight_ngl = lead_weights(lead_nc, pixel_ncl, query, key, self.num_heads)
            y_no: Tensor = self.projection(self.dropout(lead_values(weight_ngl, lead_nc, pixel_ncl, value)))
            return y_no
        query_ngld, key_ngld, value_ngld = project_heads(join_lead(lead_nc, pixel_ncl), self.qkv, self.num_heads)
        y_nle = merge_heads(attend_heads(query_ngld, key_ngld, value_ngld, scale=query_ngld.shape[3] ** -0.5))
        y_nlo: Tensor = self.projection(self.dropout(y_nle))
        return without_lead(y_nlo, x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``pairwise``, the weights of the tokens (the pixels behind the leading one) for the attending ones."""
        lead_nc, pixel_ncl = self._tokens(x_nchw)
        if self.pool:
            query, key, _ = split_projection(affine(self.qkv))
            return {"pairwise": lead_weights(lead_nc, pixel_ncl, query, key, self.num_heads).unsqueeze(2)}
        query_ngld, key_ngld, _ = project_heads(join_lead(lead_nc, pixel_ncl), self.qkv, self.num_heads)
        return {"pairwise": attention_map(query_ngld, key_ngld, scale=query_ngld.shape[3] ** -0.5)}

    def _tokens(self, x_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the leading token, ``(N, C)``, and the pixels, ``(N, C, L)``, each with its position."""
        check_input("AttentionPool2d", x_nchw, self.channels)
        size = tuple(x_nchw.shape[2:])
        lead_1c, position_lc = self.position.split([1, len(self.position) - 1])
        if size != self.feature_size and not (self.by_count and math.prod(size) == len(position_lc)):
            map_1chw = position_lc.t().unflatten(1, self.feature_size).unsqueeze(0)
            if map_1chw.dtype is not torch.float64:  # half types have no such kernel
                map_1chw = map_1chw.float()
            resized = F.interpolate(map_1chw, size=size, mode="bicubic", antialias=True, align_corners=False)
            position_lc = resized.to(position_lc.dtype).flatten(2)[0].t()
        position_lc = position_lc.to(x_nchw.dtype)
        lead_nc = lead_token(x_nchw, self.class_token) + lead_1c.to(x_nchw.dtype)
        if is_channels_last(x_nchw):
            return lead_nc, (as_tokens(x_nchw) + position_lc).transpose(1, 2)
        return lead_nc, x_nchw.flatten(2) + position_lc.t().contiguous()
