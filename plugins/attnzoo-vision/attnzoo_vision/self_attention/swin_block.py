"""Transformer block of Swin: attention in (shifted) windows and an MLP, both residual."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.activation import Activation, get_activation
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input, check_probability
from attnzoo_vision.ops.drop_path import drop_path
from attnzoo_vision.ops.sizes import pair
from attnzoo_vision.ops.vit import init_linear
from attnzoo_vision.self_attention.swin_window_attention import SwinWindowAttention

_MASKED = -100.0


class SwinBlock(nn.Module):
    """Attend inside windows, which are shifted cyclically by ``shift``, then transform each token.

    ``z = x + attention(norm1(x))``, ``y = z + W2 gelu(W1 norm2(z))``. In a shifted window, logits between tokens that
    are no neighbours on the map are lowered by 100, as in the authors' code. A map that is no multiple of the window is
    filled up with zero tokens, which are attended to; an axis that one window covers is not shifted (as torchvision).

    Args:
        embed_dim: Channels of the tokens.
        num_heads: Heads.
        window_size: Rows and columns of a window; one number for both.
        shift: Rows and columns by which the windows are shifted; one number for both, 0 for none.
        mlp_ratio: Width of the MLP over ``embed_dim``, rounded down; where that gives 0, ``embed_dim``, as theirs.
        head_dim: Width of a head; ``embed_dim // num_heads`` if left out.
        bias: Give queries, keys and values a bias.
        scale: Factor of the products; ``head_dim ** -0.5`` if left out.
        attention_dropout: Probability of dropping an attention weight.
        dropout: Probability of dropping an element of the attended or transformed tokens.
        drop_path: Probability of dropping a whole residual branch of a sample.
        eps: Constant in the layer norms.
        activation: What follows the first layer of the MLP, where the formula says gelu.

    Shape:
        ``(N, H, W, C)`` to ``(N, H, W, C)``; any H and W from 1 on.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, ``shift`` is not below ``window_size``, or a number is
            out of its range.

    Source:
        Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021,
        arXiv:2103.14030, eq. 3-4. Authors' code: github.com/microsoft/Swin-Transformer @ f82860b,
        models/swin_transformer.py, class SwinTransformerBlock.
        Deviations: tokens keep their two axes; the mask is computed for the map at hand, not stored for one resolution.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 4,
        window_size: int | list[int] = 7,
        shift: int | list[int] = 0,
        mlp_ratio: float = 4.0,
        head_dim: int | None = None,
        bias: bool = True,
        scale: float | None = None,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        eps: float = 1e-5,
        activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        _check(embed_dim, num_heads, head_dim, window_size, shift)
        check_at_least("SwinBlock", 0, mlp_ratio=mlp_ratio)
        check_probability("SwinBlock", attention_dropout=attention_dropout, dropout=dropout, drop_path=drop_path)
        self.window_size = pair("SwinBlock", "window_size", window_size)
        self.embed_dim, self.shift = embed_dim, pair("SwinBlock", "shift", shift)
        self.drop_path, self.activation = drop_path, get_activation("SwinBlock", activation)
        self.norm1 = nn.LayerNorm(embed_dim, eps=eps)
        self.attend = SwinWindowAttention(
            embed_dim,
            list(self.window_size),
            num_heads=num_heads,
            head_dim=head_dim,
            bias=bias,
            scale=scale,
            attention_dropout=attention_dropout,
            dropout=dropout,
        )
        self.norm2 = nn.LayerNorm(embed_dim, eps=eps)
        hidden = int(embed_dim * mlp_ratio) or embed_dim
        self.expand, self.contract = nn.Linear(embed_dim, hidden), nn.Linear(hidden, embed_dim)
        self.dropout = nn.Dropout(dropout)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Initialise as the authors' model does."""
        init_linear(self.expand)
        init_linear(self.contract)

    def forward(self, x_nhwc: Tensor) -> Tensor:
        """Return the tokens after both residual branches."""
        windows_mlc, bias_vll, shift = self._windows(x_nhwc)
        y_nhwc = self._merge(self.attend(windows_mlc, bias_vll), x_nhwc, shift)
        y_nhwc = x_nhwc + drop_path(y_nhwc, self.drop_path, self.training)
        hidden_nhwr = self.dropout(self.activation(self.expand(self.norm2(y_nhwc))))
        return y_nhwc + drop_path(self.dropout(self.contract(hidden_nhwr)), self.drop_path, self.training)

    def attention(self, x_nhwc: Tensor) -> dict[str, Tensor]:
        """Return ``window``: for each window, the weight of every token (column) for every token (row)."""
        windows_mlc, bias_vll, _ = self._windows(x_nhwc)
        weights_mgll = self.attend.attention(windows_mlc, bias_vll)["window"]
        return {"window": weights_mgll.unflatten(0, (x_nhwc.shape[0], math.prod(self._grid(x_nhwc))))}

    def _windows(self, x_nhwc: Tensor) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
        """Return the windows of all samples, the logits of the shift, and the shift of this map."""
        check_input("SwinBlock", x_nhwc, self.embed_dim, "NHWC", argument="embed_dim")
        (rows, columns), (height, width) = self.window_size, x_nhwc.shape[1:3]
        high, wide = self._grid(x_nhwc)
        full = (high * rows, wide * columns)
        x_nhwc = F.pad(self.norm1(x_nhwc), (0, 0, 0, full[1] - width, 0, full[0] - height))
        shift = (self.shift[0] if full[0] > rows else 0, self.shift[1] if full[1] > columns else 0)
        bias_vll = None
        if shift != (0, 0):
            x_nhwc = torch.roll(x_nhwc, (-shift[0], -shift[1]), (1, 2))
            bias_vll = self._shift_bias(full, shift, x_nhwc)
        x_nyixjc = x_nhwc.unflatten(2, (-1, columns)).unflatten(1, (-1, rows))
        return x_nyixjc.transpose(2, 3).flatten(0, 2).flatten(1, 2), bias_vll, shift

    def _grid(self, x_nhwc: Tensor) -> tuple[int, int]:
        """Return how many windows the map has, high and wide."""
        return -(-x_nhwc.shape[1] // self.window_size[0]), -(-x_nhwc.shape[2] // self.window_size[1])

    def _shift_bias(self, full: tuple[int, int], shift: tuple[int, int], like: Tensor) -> Tensor:
        """Return ``(V, L, L)``: -100 where query and key come from different sides of the cyclic shift."""
        (rows, columns), device = self.window_size, like.device
        regions = []
        for length, size, moved in zip(full, self.window_size, shift, strict=True):
            place = torch.arange(length, device=device)
            regions.append((place >= length - size).long() + (place >= length - moved).long())
        region_hw = 3 * regions[0][:, None] + regions[1][None, :]
        region_vl = (
            region_hw.view(full[0] // rows, rows, full[1] // columns, columns).transpose(1, 2).flatten(2).flatten(0, 1)
        )
        return (region_vl[:, None, :] != region_vl[:, :, None]).to(like.dtype) * _MASKED

    def _merge(self, windows_mlc: Tensor, x_nhwc: Tensor, shift: tuple[int, int]) -> Tensor:
        """Put the windows back in their places, undo the shift, and cut off what was filled up."""
        (rows, columns), (height, width) = self.window_size, x_nhwc.shape[1:3]
        y_nyxijc = windows_mlc.unflatten(1, (rows, columns)).unflatten(0, (x_nhwc.shape[0], *self._grid(x_nhwc)))
        y_nhwc = y_nyxijc.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if shift != (0, 0):
            y_nhwc = torch.roll(y_nhwc, shift, (1, 2))
        whole_nhwc: Tensor = y_nhwc[:, :height, :width]
        return whole_nhwc


def _check(
    embed_dim: int, num_heads: int, head_dim: int | None, window_size: int | list[int], shift: int | list[int]
) -> None:
    check_at_least("SwinBlock", 1, embed_dim=embed_dim, num_heads=num_heads, window_size=window_size, head_dim=head_dim)
    check_at_least("SwinBlock", 0, shift=shift)
    sizes = pair("SwinBlock", "window_size", window_size)
    if not all(s < w for s, w in zip(pair("SwinBlock", "shift", shift), sizes, strict=True)):
        message = f"SwinBlock: shift={shift!r} is not below window_size={window_size!r}; use half of it, or 0"
        raise ValueError(message)
    if head_dim is None:
        check_divides("SwinBlock", "num_heads", num_heads, "embed_dim", embed_dim)
