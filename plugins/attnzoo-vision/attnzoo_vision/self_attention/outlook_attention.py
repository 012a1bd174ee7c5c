"""Outlook attention of VOLO: each pixel predicts the weights of its whole neighbourhood."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import affine
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input, check_probability
from attnzoo_vision.ops.compiling import kept_softmax, may_specialise
from attnzoo_vision.ops.window_filters import apply_filters, merge_windows
from attnzoo_vision.ops.window_pooling import avg_pool2d


class OutlookAttention(nn.Module):
    """Sum over all windows: in each, every position is a weighted sum of the values, with weights from the centre.

    ``y = W_o fold(a v) + b_o``, ``a_window = softmax_j(scale (W_a mean(x) + b_a))_ij`` for positions i and j of the
    window; the mean is over the ``stride`` x ``stride`` pixels at its centre. Overlapping windows are added.

    Args:
        embed_dim: Channels of input and output.
        num_heads: Heads.
        kernel_size: Rows and columns of a window.
        padding: Zero rows and columns around the map; ``kernel_size // 2`` if left out.
        stride: Step between windows.
        bias: Give the values a bias.
        scale: Factor of the logits; ``(embed_dim // num_heads) ** -0.5`` if left out.
        attention_dropout: Probability of dropping an attention weight.
        dropout: Probability of dropping an element of the output.

    Shape:
        ``(N, H, W, C)`` to ``(N, H, W, C)``; any H and W from 1 on whose windows cover the map
        (``padding = kernel_size // 2`` with an odd ``kernel_size`` always does).

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, a size is too small, ``padding`` does not fit, or a
            probability is out of its range.

    Source:
        Yuan et al., "VOLO: Vision Outlooker for Visual Recognition", TPAMI 2022, arXiv:2106.13112, eq. 3-5.
        Authors' code: github.com/sail-sg/volo @ cf35775, models/volo.py, class OutlookAttention.
        Deviations: with stride 1 the weights of overlapping windows are merged into one filter a pixel first, so no
        window of values is ever copied out; the numbers are the same.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 6,
        kernel_size: int = 3,
        padding: int | None = None,
        stride: int = 1,
        bias: bool = False,
        scale: float | None = None,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        name = "OutlookAttention"
        check_at_least(name, 1, embed_dim=embed_dim, num_heads=num_heads, kernel_size=kernel_size, stride=stride)
        check_probability(name, attention_dropout=attention_dropout, dropout=dropout)
        check_divides(name, "num_heads", num_heads, "embed_dim", embed_dim)
        self.num_heads, self.kernel_size, self.stride = num_heads, kernel_size, stride
        self.padding = kernel_size // 2 if padding is None else padding
        check_windows(name, kernel_size, padding, stride)
        self.scale = (embed_dim // num_heads) ** -0.5 if scale is None else scale
        self.value = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.weight = nn.Linear(embed_dim, kernel_size**4 * num_heads)
        self.projection = nn.Linear(embed_dim, embed_dim)
        self.attention_dropout = nn.Dropout(attention_dropout)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the authors' model does."""
        for layer in (self.value, self.weight, self.projection):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x_nhwc: Tensor) -> Tensor:
        """Return the attended tokens."""
        check_input("OutlookAttention", x_nhwc, self.embed_dim, "NHWC", argument="embed_dim")
        centred = self.stride == 1 and self.kernel_size % 2 == 1 and self.padding == self.kernel_size // 2
        if centred and may_specialise(x_nhwc) and not self._is_small(x_nhwc):
            y_nhwc = self._filtered(x_nhwc)
        else:
            y_nhwc = self._folded(x_nhwc)
        y_nhwc = self.dropout(self.projection(y_nhwc))
        y: Tensor = y_nhwc
        return y

    def attention(self, x_nhwc: Tensor) -> dict[str, Tensor]:
        """Return ``window``: for each head and window, the weight of every position j for every position i."""
        check_input("OutlookAttention", x_nhwc, self.embed_dim, "NHWC", argument="embed_dim")
        area = self.kernel_size**2
        logits_nhwo = self.weight(self._pooled(x_nhwc)) * self.scale
        weight_nlgij = torch.softmax(logits_nhwo.flatten(1, 2).unflatten(2, (self.num_heads, area, area)), dim=4)
        return {"window": weight_nlgij.transpose(1, 2)}

    def _is_small(self, x_nhwc: Tensor) -> bool:
        """Say whether the rim of the map is so large a part of it that filters, which reach beyond, cost more."""
        reach = self.kernel_size - 1
        height, width = x_nhwc.shape[1:3]
        return (height + 2 * reach) * (width + 2 * reach) > 2 * height * width

    def _pooled(self, x_nhwc: Tensor) -> Tensor:
        if self.stride == 1:
            return x_nhwc
        return avg_pool2d(x_nhwc.permute(0, 3, 1, 2), self.stride, ceil_mode=True).permute(0, 2, 3, 1)

    def _folded(self, x_nhwc: Tensor) -> Tensor:
        """Copy the windows of values out, weight them, and add them up again."""
        size = (x_nhwc.shape[1], x_nhwc.shape[2])
        weight_nglij = self.attention_dropout(self.attention(x_nhwc)["window"])
        options = {"kernel_size": self.kernel_size, "padding": self.padding, "stride": self.stride}
        value_nol = F.unfold(self.value(x_nhwc).permute(0, 3, 1, 2), **options)
        if value_nol.shape[2] != weight_nglij.shape[2]:
            found, expected = value_nol.shape[2], weight_nglij.shape[2]
            message = f"OutlookAttention: padding={self.padding} gives {found} windows for a map of {size}, expected "
            message += f"{expected}; use an odd kernel_size and padding=kernel_size // 2"
            raise ValueError(message)
        value_ngdjl = value_nol.unflatten(1, (self.num_heads, -1, self.kernel_size**2))
        y_nglid = torch.matmul(weight_nglij, value_ngdjl.permute(0, 1, 4, 3, 2))
        y_nchw = F.fold(y_nglid.permute(0, 1, 4, 3, 2).flatten(1, 3), size, **options)
        return y_nchw.permute(0, 2, 3, 1)

    def _filtered(self, x_nhwc: Tensor) -> Tensor:
        """Merge the weights of all windows over a pixel into one filter of ``2 k - 1`` rows, and apply it once.

        Rows of filters and values are padded to one length, so that each shift is an offset in a flat line.
        """
        samples, height, width, _ = x_nhwc.shape
        reach = self.kernel_size - 1
        taps, line = 2 * reach + 1, width + 2 * reach
        length = height * line
        filter_ngts = F.pad(self._filters(x_nhwc), (0, 2 * reach)).view(samples, self.num_heads, taps**2, length)
        value_ngdhw = self.value(x_nhwc).permute(0, 3, 1, 2).unflatten(1, (self.num_heads, -1))
        value_ngds = F.pad(value_ngdhw, (reach, reach, reach, reach + 1)).flatten(3)
        shifts = [row * line + column for row in range(taps) for column in range(taps)]
        y_ngds = apply_filters(value_ngds, filter_ngts, shifts)
        y: Tensor = y_ngds.unflatten(3, (height, line))[..., :width].flatten(1, 2).permute(0, 2, 3, 1)
        return y

    def _filters(self, x_nhwc: Tensor) -> Tensor:
        """Return the merged filters, ``(N, heads, 2 k - 1, 2 k - 1, H, W)``."""
        samples, height, width, _ = x_nhwc.shape
        size, area = self.kernel_size, self.kernel_size**2
        weight_oc, bias_o = affine(self.weight).filled()
        x_ncl = x_nhwc.flatten(1, 2).transpose(1, 2)
        logits_nol = torch.baddbmm(bias_o[:, None], weight_oc.expand(samples, -1, -1), x_ncl)
        weight = kept_softmax(logits_nol.unflatten(1, (self.num_heads, area, area)) * self.scale, dim=3)
        weight = self.attention_dropout(weight).view(samples, self.num_heads, size, size, size, size, height, width)
        return merge_windows(weight)


def check_windows(block: str, kernel_size: int, padding: int | None, stride: int) -> None:
    """Raise ValueError if the windows of ``block`` are more or fewer than the steps on a map of any size."""
    check_at_least(block, 0, padding=padding)
    width = kernel_size // 2 if padding is None else padding
    if abs(2 * width - kernel_size + 1) >= stride:
        message = f"{block}: kernel_size={kernel_size} with padding={width} gives no window for each pixel; "
        raise ValueError(message + "use an odd kernel_size and padding=kernel_size // 2")
