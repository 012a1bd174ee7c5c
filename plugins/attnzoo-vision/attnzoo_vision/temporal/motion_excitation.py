"""Motion excitation of TEA."""

import torch
from torch import Tensor, nn

from attnzoo.layers import affine
from attnzoo_vision.ops.batch_norm import BatchNorm1d, BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_input, check_weight
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.frames import to_clips, window_means, window_shares
from attnzoo_vision.ops.joined_norm import before_norm, is_joinable
from attnzoo_vision.ops.tokens import project


class MotionExcitation(nn.Module):
    """Scale each channel by a weight computed from how its features change until the next frame.

    ``y_t = x_t + k x_t (sigmoid(BN(V mean_hw(dw3x3(s_(t+1)) - s_t))) - 1/2)``, ``s = BN(W x)``, ``k`` the
    ``gate_scale``; the last frame has no next one, its difference is 0

    Args:
        channels: Channels of the input.
        num_frames: Frames of a clip, which lie one behind the other in the batch.
        reduction: Divisor of ``channels`` that gives the channels of the differences, rounded down.
        gate_scale: What the sigmoid less 1/2 is multiplied by, above 0. 1 is the authors' code; 2 is the paper's
            ``2 sigmoid - 1``, in (-1, 1).

    Shape:
        ``(N * num_frames, C, H, W)`` to the same shape; any H and W from 1 on.

    Raises:
        ValueError: ``reduction`` leaves no channel, ``gate_scale`` is not above 0, or the batch is not a multiple of
            ``num_frames``.

    Source:
        Li et al., "TEA: Temporal Excitation and Aggregation for Action Recognition", CVPR 2020, arXiv:2004.01398,
        eq. 1-6. Authors' code: github.com/Phoenix1327/tea-action-recognition @ f59e2f8, ops/tea50_8f.py, MEModule.
        Deviations: none from the code. The mean of the depthwise convolution is computed from nine means, without the
        convolution; in evaluation from means of the input.
    """

    def __init__(self, channels: int, num_frames: int, *, reduction: int = 16, gate_scale: float = 1.0) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("MotionExcitation", 1, channels=channels, num_frames=num_frames, reduction=reduction)
        check_at_most("MotionExcitation", "reduction", reduction, "channels", channels)
        if gate_scale <= 0:
            message = f"MotionExcitation: gate_scale={gate_scale} is not above 0; use 1 or 2"
            raise ValueError(message)
        hidden = channels // reduction
        self.num_frames, self.gate_scale = num_frames, gate_scale
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.squeeze_norm = BatchNorm2d(hidden)
        self.transform = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.excite = nn.Linear(hidden, channels, bias=False)
        self.excite_norm = BatchNorm1d(channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: Kaiming normal by fan-out, as the authors' network does."""
        for layer in (self.squeeze, self.transform, self.excite):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        for norm in (self.squeeze_norm, self.excite_norm):
            norm.reset_parameters()

    def forward(self, x_fchw: Tensor) -> Tensor:
        """Return the frames, each channel scaled."""
        return x_fchw * (self.gate_scale * self._weight(x_fchw) + (1.0 - self.gate_scale / 2))

    def attention(self, x_fchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weight before 1/2 is subtracted, ``(N * num_frames, C, 1, 1)``."""
        return {"channel": self._weight(x_fchw)}

    def _weight(self, x_fchw: Tensor) -> Tensor:
        check_input("MotionExcitation", x_fchw, self.channels)
        means_frkk = self._squeezed_means(x_fchw)
        weight_r1kk, bias_r = affine(self.transform, same=True)
        check_weight("MotionExcitation", "transform", weight_r1kk, means_frkk.shape[1], 1, 3, 3)
        moved_fr = (means_frkk.flatten(2) * weight_r1kk.flatten(1)).sum(dim=2)
        if bias_r is not None:
            moved_fr = moved_fr + bias_r
        moved_ntr = to_clips(moved_fr, self.num_frames, "MotionExcitation")
        here_ntr = to_clips(means_frkk[:, :, 1, 1], self.num_frames, "MotionExcitation")
        change_ntr = torch.zeros_like(here_ntr)
        change_ntr[:, :-1] = moved_ntr[:, 1:] - here_ntr[:, :-1]
        return torch.sigmoid(self.excite_norm(self.excite(change_ntr.flatten(0, 1))))[:, :, None, None]

    def _squeezed_means(self, x_fchw: Tensor) -> Tensor:
        """Return `window_means` of the squeezed and normalised frames, ``(N * num_frames, R, 3, 3)``."""
        norm = self.squeeze_norm
        if not is_joinable(norm):
            return window_means(norm(convolve(self.squeeze, x_fchw)))
        weight_rc11, offset_r = before_norm(*affine(self.squeeze, same=True), norm)
        squeezed_fkr = project(window_means(x_fchw), weight_rc11.flatten(1))
        means_frkk = torch.unflatten(squeezed_fkr.transpose(1, 2), 2, (3, 3))
        # a tap outside of the map sees no offset
        return means_frkk + offset_r[:, None, None] * window_shares(x_fchw)
