"""Convolution, batch norm and ReLU, the unit that segmentation networks are made of."""

import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """Convolve without bias, normalise over the batch, and apply ReLU if ``relu``.

    The padding is half the kernel, so that an odd kernel with stride 1 keeps the size.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = relu

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the map of ``out_channels`` channels."""
        y_nchw: Tensor = self.norm(self.conv(x_nchw))
        return F.relu(y_nchw, inplace=True) if self.relu else y_nchw


def normalise_pooled(norm: nn.BatchNorm1d, x_nc: Tensor) -> Tensor:
    """Return ``norm(x_nc)`` of values pooled over all pixels; one sample alone is normalised with the running statistics.

    One sample has no variance over the batch: training with it would be an error, which spoils the last, smaller batch
    of an epoch.
    """
    if norm.training and x_nc.shape[0] == 1:
        return F.batch_norm(x_nc, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    normalised_nc: Tensor = norm(x_nc)
    return normalised_nc
