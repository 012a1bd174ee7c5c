"""Motion excitation of TEA."""

import torch
from torch import Tensor, nn

from attnzoo.layers import affine
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_at_most
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.frames import to_clips, window_sums
from attnzoo_vision.ops.tokens import project


class MotionExcitation(nn.Module):
    """Scale each channel by a weight computed from how its features change until the next frame.

    ``y_t = x_t + x_t (sigmoid(BN(V mean_hw(dw3x3(s_(t+1)) - s_t))) - 1/2)``, ``s = BN(W x)``; the last frame has no
    next one, its difference is 0

    Args:
        channels: Channels of the input.
        num_frames: Frames of a clip, which lie one behind the other in the batch.
        reduction: Divisor of ``channels`` that gives the channels of the differences, rounded down.

    Shape:
        ``(N * num_frames, C, H, W)`` to the same shape; any H and W from 1 on. Training needs ``N * num_frames > 1``.

    Raises:
        ValueError: ``reduction`` leaves no channel, or the batch is not a multiple of ``num_frames``.

    Source:
        Li et al., "TEA: Temporal Excitation and Aggregation for Action Recognition", CVPR 2020, arXiv:2004.01398,
        eq. 1-6. Authors' code: github.com/Phoenix1327/tea-action-recognition @ f59e2f8, ops/tea50_8f.py, MEModule.
        Deviations: none. The mean of the depthwise convolution is computed from nine sums, without the convolution; in
        evaluation from sums of the input.
    """

    def __init__(self, channels: int, num_frames: int, *, reduction: int = 16) -> None:
        super().__init__()
        check_at_least("MotionExcitation", 1, channels=channels, num_frames=num_frames, reduction=reduction)
        check_at_most("MotionExcitation", "reduction", reduction, "channels", channels)
        hidden = channels // reduction
        self.num_frames = num_frames
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.squeeze_norm = BatchNorm2d(hidden)
        self.transform = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.excite = nn.Linear(hidden, channels, bias=False)
        self.excite_norm = nn.BatchNorm1d(channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: Kaiming normal by fan-out, as the authors' network does."""
        for layer in (self.squeeze, self.transform, self.excite):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_fchw: Tensor) -> Tensor:
        """Return the frames, each channel scaled."""
        return x_fchw * (self._weight(x_fchw) + 0.5)

    def attention(self, x_fchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weight before 1/2 is subtracted, ``(N * num_frames, C, 1, 1)``."""
        return {"channel": self._weight(x_fchw)}

    def _weight(self, x_fchw: Tensor) -> Tensor:
        height, width = x_fchw.shape[2:]
        sums_frkk = self._squeezed_sums(x_fchw)
        moved_fr = (sums_frkk * affine(self.transform).weight[:, 0]).sum(dim=(2, 3))
        moved_ntr = to_clips(moved_fr, self.num_frames, "MotionExcitation")
        here_ntr = to_clips(sums_frkk[:, :, 1, 1], self.num_frames, "MotionExcitation")
        change_ntr = torch.zeros_like(here_ntr)
        change_ntr[:, :-1] = (moved_ntr[:, 1:] - here_ntr[:, :-1]) / (height * width)
        return torch.sigmoid(self.excite_norm(self.excite(change_ntr.flatten(0, 1))))[:, :, None, None]

    def _squeezed_sums(self, x_fchw: Tensor) -> Tensor:
        """Return `window_sums` of the squeezed and normalised frames, ``(N * num_frames, R, 3, 3)``."""
        norm = self.squeeze_norm
        if norm.training or norm.running_mean is None or norm.running_var is None:
            return window_sums(norm(convolve(self.squeeze, x_fchw)))
        sums_frkk = self._squeezed(window_sums(x_fchw))
        height, width = x_fchw.shape[2:]
        rows_k = torch.tensor([height - 1, height, height - 1], dtype=sums_frkk.dtype, device=sums_frkk.device)
        columns_k = torch.tensor([width - 1, width, width - 1], dtype=sums_frkk.dtype, device=sums_frkk.device)
        slope_r = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        offset_r = norm.bias - slope_r * norm.running_mean
        areas_kk = rows_k[:, None] * columns_k
        return sums_frkk * slope_r[:, None, None] + offset_r[:, None, None] * areas_kk

    def _squeezed(self, sums_fckk: Tensor) -> Tensor:
        squeezed_fkr = project(sums_fckk, affine(self.squeeze).weight.flatten(1))
        return torch.unflatten(squeezed_fkr.transpose(1, 2), 2, (3, 3))
