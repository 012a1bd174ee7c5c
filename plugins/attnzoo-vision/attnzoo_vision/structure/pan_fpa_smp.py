"""Feature pyramid attention as segmentation_models.pytorch has it."""

from functools import partial

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.draw import draw_anew
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.resize import resize
from attnzoo_vision.ops.window_pooling import max_pool2d

_KERNELS = (7, 5, 3)
_LEAST = 8  # pixels, which three pools by 2 leave one of


class FeaturePyramidAttentionSMP(nn.Module):
    """Weight each pixel of a map by a pyramid of three smaller maps of one channel, and add the map's global mean.

    ``y = cbr(x) * a + relu(BN(V mean_hw(x) + b))``, ``d_i = cbr(maxpool(d_(i-1)))``, ``d_0 = x``,
    ``a = up(cbr7(d_1) + up(cbr5(d_2) + up(cbr3(d_3))))``, ``cbr(x) = relu(BN(conv(x) + b))``

    Args:
        channels: Channels of the input.
        out_channels: Channels of the output.

    Shape:
        ``(N, C, H, W)`` to ``(N, out_channels, H, W)``; any H and W from 8 on.

    Raises:
        ValueError: A number of channels is below 1, or H or W is below 8.

    Source:
        Li et al., "Pyramid Attention Network for Semantic Segmentation", BMVC 2018, arXiv:1805.10180, section 3.1.
        The authors released no code; github.com/qubvel/segmentation_models.pytorch @ bd7f877,
        segmentation_models_pytorch/decoders/pan/decoder.py, class FPABlock.
        Deviations: none. Training with a single sample, an error there, normalises the mean with the running
        statistics.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("FeaturePyramidAttentionSMP", 1, channels=channels, out_channels=out_channels)
        self.master = ConvNorm(channels, out_channels, bias=True, relu=True)
        self.mean = nn.Linear(channels, out_channels)
        self.mean_norm = BatchNorm1d(out_channels)
        widths = (channels, 1, 1)
        self.down = nn.ModuleList(
            ConvNorm(c, 1, kernel_size=k, bias=True, relu=True) for c, k in zip(widths, _KERNELS, strict=True)
        )
        self.lateral = nn.ModuleList(ConvNorm(1, 1, kernel_size=k, bias=True, relu=True) for k in _KERNELS)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: Kaiming uniform without bias, as that library does."""
        uniform = partial(nn.init.kaiming_uniform_, nonlinearity="relu")
        draw_anew(self, conv=uniform, linear=uniform, zero_biases=True)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the weighted map plus the mean."""
        weight_n1hw = self._weight(x_nchw)
        mean_no = torch.relu(self.mean_norm(self.mean(global_mean(x_nchw))))
        return torch.addcmul(mean_no[:, :, None, None], self.master(x_nchw), weight_n1hw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``weight``, what each pixel is multiplied by, zero or above, ``(N, 1, H, W)``."""
        return {"weight": self._weight(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        check_input("FeaturePyramidAttentionSMP", x_nchw, self.channels)
        if min(x_nchw.shape[2:]) < _LEAST:
            size = tuple(x_nchw.shape[2:])
            message = (
                f"FeaturePyramidAttentionSMP: input of {size} pixels, expected {_LEAST} or more; give a larger map"
            )
            raise ValueError(message)
        levels = [x_nchw]
        for down in self.down:
            levels.append(down(max_pool2d(levels[-1], 2)))
        merged: Tensor = self.lateral[2](levels[3])
        for i in (1, 0):
            merged = self.lateral[i](levels[i + 1]) + resize(merged, levels[i + 1].shape[2:])
        return resize(merged, x_nchw.shape[2:])
