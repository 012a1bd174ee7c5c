"""Parts of the contextual transformer layers: the local sum with weights per pixel, and the fusion of two maps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.pooling import global_mean


def aggregate_locally(value_nchw: Tensor, weight_nkhw: Tensor, kernel_size: int, groups: int) -> Tensor:
    """Return the weighted sum over each pixel's neighbourhood, zero padded; the map is never unfolded.

    ``weight_nkhw`` holds ``kernel_size ** 2`` weights for each of a group's weight channels, taps fastest; within a
    group, value channel c uses weight channel c modulo their number.
    """
    (height, width), taps = value_nchw.shape[2:], kernel_size**2
    weight = weight_nkhw.unflatten(1, (groups, 1, -1, taps))
    value = F.pad(value_nchw, [kernel_size // 2] * 4).unflatten(1, (groups, -1, weight.shape[3]))
    y: Tensor | None = None
    for tap in range(taps):
        row, column = divmod(tap, kernel_size)
        shifted = value[..., row : row + height, column : column + width]
        y = shifted * weight[:, :, :, :, tap] if y is None else torch.addcmul(y, shifted, weight[:, :, :, :, tap])
    assert y is not None
    return y.flatten(1, 3)


class Fusion(nn.Module):
    """Mix two maps with weights per channel that sum to 1, computed from the means of their sum."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, hidden_channels)
        self.norm = BatchNorm1d(hidden_channels)
        self.excite = nn.Linear(hidden_channels, 2 * channels)

    def weights(self, first_nchw: Tensor, second_nchw: Tensor) -> Tensor:
        """Return the two weights of each channel, ``(N, C, 2)``."""
        mean_nc = global_mean(first_nchw) + global_mean(second_nchw)
        hidden_nr = torch.relu(self.norm(self.squeeze(mean_nc)))
        return torch.softmax(self.excite(hidden_nr).unflatten(1, (-1, 2)), dim=2)

    def forward(self, first_nchw: Tensor, second_nchw: Tensor) -> Tensor:
        """Return the mixed map."""
        weight_nc112 = self.weights(first_nchw, second_nchw)[:, :, None, None]
        return torch.addcmul(first_nchw * weight_nc112[..., 0], second_nchw, weight_nc112[..., 1])
