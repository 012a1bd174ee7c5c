"""Lambda layer: global interactions as a linear function of each query."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_divides, check_input, check_odd
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.lambdas import apply_lambdas
from attnzoo_vision.ops.layout import is_channels_last
from attnzoo_vision.ops.sizes import pair
from attnzoo_vision.ops.window_pooling import avg_pool2d


class LambdaLayer(nn.Module):
    """Turn the map into a linear function for each position, and apply it to the query there.

    ``y_n = q_n (sum_m softmax_m(k_m) v_m^T + sum_m e_(m - n) v_m^T)``; all heads share the keys, the values and the
    lambdas. The places ``e`` are a convolution of the values, over a window or, with ``feature_size``, over all
    displacements, so no table of pairs exists.

    Args:
        channels: Channels of the input.
        out_channels: Channels of the output; ``channels`` if left out.
        num_heads: Heads, each with ``out_channels // num_heads`` channels.
        key_dim: Width of queries and keys.
        depth: Intra-depth: how many keys and values each position has.
        kernel_size: Window of the places, an odd number; not used with ``feature_size``.
        feature_size: Height and width for which all displacements are learned; one number for both.
        stride: 2 averages 2x2 positions of the output.
        bias: Give the projection a bias.

    Shape:
        ``(N, C, H, W)`` to ``(N, out_channels, H / stride, W / stride)``; with ``feature_size`` H and W at most that.

    Raises:
        ValueError: ``num_heads`` does not divide ``out_channels``, ``kernel_size`` is even, ``stride`` is unknown, or
            the map is larger than ``feature_size``.

    Source:
        Bello, "LambdaNetworks: Modeling Long-Range Interactions Without Attention", ICLR 2021, arXiv:2102.08602,
        fig. 3 and app. The paper has snippets only; code: lucidrains/lambda-networks @ 8116ff3 and timm 1.0.31.
        Deviations: none; the convolution has a bias as in both.
    """

    def __init__(
        self,
        channels: int,
        *,
        out_channels: int | None = None,
        num_heads: int = 4,
        key_dim: int = 16,
        depth: int = 1,
        kernel_size: int = 23,
        feature_size: int | list[int] | None = None,
        stride: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        name = "LambdaLayer"
        check_at_least(name, 1, channels=channels, out_channels=out_channels, num_heads=num_heads, key_dim=key_dim)
        check_at_least(name, 1, depth=depth, kernel_size=kernel_size, feature_size=feature_size)
        out = channels if out_channels is None else out_channels
        check_divides(name, "num_heads", num_heads, "out_channels", out)
        check_choice(name, "stride", stride, (1, 2))
        check_odd(name, kernel_size=kernel_size)
        self.num_heads, self.key_dim, self.depth, self.stride = num_heads, key_dim, depth, stride
        self.feature_size = None if feature_size is None else pair(name, "feature_size", feature_size)
        self.sizes = [num_heads * key_dim, depth * key_dim, depth * (out // num_heads)]
        self.qkv = nn.Conv2d(channels, sum(self.sizes), 1, bias=bias)
        self.query_norm = BatchNorm2d(self.sizes[0])
        self.value_norm = BatchNorm2d(self.sizes[2])
        local = self.feature_size is None
        window = (kernel_size,) * 2 if self.feature_size is None else tuple(2 * size - 1 for size in self.feature_size)
        padding = (window[0] // 2, window[1] // 2)
        self.place = nn.Conv2d(depth, key_dim, (window[0], window[1]), padding=padding, bias=local)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Draw the projection by its fan-in and the places by the width of a key, as timm does."""
        nn.init.trunc_normal_(self.qkv.weight, std=self.qkv.in_channels**-0.5)
        nn.init.trunc_normal_(self.place.weight, std=self.key_dim**-0.5 if self.feature_size is None else 0.02)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the map of the applied lambdas, averaged 2x2 if ``stride`` is 2."""
        check_input("LambdaLayer", x_nchw, self.channels)
        height, width = x_nchw.shape[2:]
        query_nchw, key_nuks, value_nchw = self._project(x_nchw)
        value_nuvs = value_nchw.flatten(2).unflatten(1, (self.depth, -1))
        content_nvk = torch.einsum("nuvs,nuks->nvk", value_nuvs, torch.softmax(key_nuks, dim=3))
        query_ngks = query_nchw.flatten(2).unflatten(1, (self.num_heads, -1))
        y_nsgv = apply_lambdas(query_ngks, content_nvk, value_nuvs, self.place, (height, width))
        y_nchw = y_nsgv.flatten(2).transpose(1, 2).unflatten(2, (height, width))
        if not is_channels_last(x_nchw):
            y_nchw = y_nchw.contiguous()
        return avg_pool2d(y_nchw, 2) if self.stride == 2 else y_nchw

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``key``, the softmax of each key channel over all positions."""
        check_input("LambdaLayer", x_nchw, self.channels)
        return {"key": torch.softmax(self._project(x_nchw)[1], dim=3)}

    def _project(self, x_nchw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = x_nchw.shape[2:]
        size = self.feature_size
        if size is not None and (height > size[0] or width > size[1]):
            message = f"LambdaLayer: map of {height}x{width} is larger than feature_size={list(size)}; "
            message += "build it with a larger one"
            raise ValueError(message)
        query_nchw, key_nchw, value_nchw = convolve(self.qkv, x_nchw).split(self.sizes, dim=1)
        key_nuks = key_nchw.flatten(2).unflatten(1, (self.depth, self.key_dim))
        return self.query_norm(query_nchw), key_nuks, self.value_norm(value_nchw)
