"""Temporal adaptive module."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.checks import check_at_least, check_input, check_odd
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.frames import filter_frames, to_clips
from attnzoo_vision.ops.pooling import global_mean


class TemporalAdaptiveModule(nn.Module):
    """Scale each channel of each frame, then filter along time with a kernel made for each clip and channel.

    ``y = (sigmoid(V2 relu(BN(V1 * p))) x) * softmax(W2 relu(BN(W1 p)))``, ``p = mean_hw(x)``, both ``*`` along time

    Args:
        channels: Channels of the input; a quarter of them, rounded down, are hidden channels of the scale.
        num_frames: Frames of a clip, which lie one behind the other in the batch.
        kernel_size: Frames that both filters along time span, odd.

    Shape:
        ``(N * num_frames, C, H, W)`` to the same shape; any H and W from 1 on.

    Raises:
        ValueError: ``kernel_size`` is even, a number is too small, or the batch is not a multiple of ``num_frames``.

    Source:
        Liu et al., "TAM: Temporal Adaptive Module for Video Recognition", ICCV 2021, arXiv:2005.06803, eq. 2-6.
        Authors' code: github.com/liu-zhy/temporal-adaptive-module @ 5fcb46f, ops/temporal_module.py, class TAM.
        Deviations: none. Frames are summed with shifts instead of convolved, and scale and kernel are multiplied first.
    """

    def __init__(self, channels: int, num_frames: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("TemporalAdaptiveModule", 4, channels=channels)
        check_at_least("TemporalAdaptiveModule", 1, num_frames=num_frames)
        check_odd("TemporalAdaptiveModule", kernel_size=kernel_size)
        self.num_frames = num_frames
        self.kernel_hidden = nn.Linear(num_frames, 2 * num_frames, bias=False)
        self.kernel_norm = BatchNorm1d(2 * num_frames)
        self.kernel = nn.Linear(2 * num_frames, kernel_size, bias=False)
        self.scale_hidden = nn.Conv1d(channels, channels // 4, kernel_size, padding=kernel_size // 2, bias=False)
        self.scale_norm = BatchNorm1d(channels // 4)
        self.scale = nn.Conv1d(channels // 4, channels, 1, bias=False)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_fchw: Tensor) -> Tensor:
        """Return the filtered frames."""
        check_input("TemporalAdaptiveModule", x_fchw, self.channels)
        x_ntchw = to_clips(x_fchw, self.num_frames, "TemporalAdaptiveModule")
        kernel_nck, scale_nct = self._weights(x_fchw)
        scale_ntc = scale_nct.transpose(1, 2)
        taps = [self._tap(kernel_nck[..., k], scale_ntc, k) for k in range(kernel_nck.shape[-1])]
        return filter_frames(x_ntchw, taps).flatten(0, 1)

    def attention(self, x_fchw: Tensor) -> dict[str, Tensor]:
        """Return ``kernel``, the weights of the frames around, ``(N, C, K)``, and ``scale``, ``(N, C, T)``."""
        check_input("TemporalAdaptiveModule", x_fchw, self.channels)
        kernel_nck, scale_nct = self._weights(x_fchw)
        return {"kernel": kernel_nck, "scale": scale_nct}

    def _weights(self, x_fchw: Tensor) -> tuple[Tensor, Tensor]:
        pooled_nct = to_clips(global_mean(x_fchw), self.num_frames, "TemporalAdaptiveModule").transpose(1, 2)
        hidden_pr = torch.relu(self.kernel_norm(self.kernel_hidden(pooled_nct.flatten(0, 1))))
        kernel_nck = self.kernel(hidden_pr).softmax(-1).unflatten(0, pooled_nct.shape[:2])
        scale_nct = torch.sigmoid(
            convolve(self.scale, torch.relu(self.scale_norm(convolve(self.scale_hidden, pooled_nct))))
        )
        return kernel_nck, scale_nct

    def _tap(self, weight_nc: Tensor, scale_ntc: Tensor, position: int) -> Tensor:
        """Return the factor of the frame at ``position`` of the kernel for each output frame, ``(N, T, C, 1, 1)``."""
        shift = position - self.kernel.out_features // 2
        tap_ntc = weight_nc[:, None] * scale_ntc.roll(-shift, dims=1)
        return tap_ntc[..., None, None]
