"""Multiple temporal aggregation of TEA."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.draw import by_outputs, draw_anew
from attnzoo_vision.ops.frames import filter_frames, to_clips
from attnzoo_vision.ops.window_pooling import avg_pool2d

_TAPS = 3


class MultipleTemporalAggregation(nn.Module):
    """Filter groups of channels along time and space, each group taking up the result of the one before.

    ``y_1 = cbr(t(x_1))``, ``y_i = cbr(t(x_i + y_(i-1)))``, ``y_s = t(x_s)``, ``y = cat(y_1, ..., y_s)``; ``t`` filters
    each channel over 3 frames, ``cbr(x) = relu(BN(conv3x3(x)))``

    Args:
        channels: Channels of the input.
        num_frames: Frames of a clip, which lie one behind the other in the batch.
        groups: Number of groups that the channels are split into.
        stride: Step of the convolutions in pixels; above 1 it needs ``stage``.
        stage: First block of a stage of the network: groups do not take up results, and the last one is averaged over
            3 by 3 pixels with the stride.

    Shape:
        ``(N * num_frames, C, H, W)`` to ``(N * num_frames, C, ceil(H / stride), ceil(W / stride))``; any H and W from 1
        on.

    Raises:
        ValueError: ``groups`` is below 2 or does not divide ``channels``, ``stride`` does not fit ``stage``, or the
            batch is not a multiple of ``num_frames`` or has other channels.

    Source:
        Li et al., "TEA: Temporal Excitation and Aggregation for Action Recognition", CVPR 2020, arXiv:2004.01398,
        eq. 7. Authors' code: github.com/Phoenix1327/tea-action-recognition @ f59e2f8, ops/tea50_8f.py, class
        Bottle2neckShift, the part between its 1x1 convolutions.
        Deviations: none. The filters start as the identity, those of the last group as shifts by a frame, as there.
    """

    def __init__(
        self, channels: int, num_frames: int, *, groups: int = 4, stride: int = 1, stage: bool = False
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("MultipleTemporalAggregation", 1, channels=channels, num_frames=num_frames, stride=stride)
        check_at_least("MultipleTemporalAggregation", 2, groups=groups)
        check_divides("MultipleTemporalAggregation", "groups", groups, "channels", channels)
        if stride > 1 and not stage:
            message = f"MultipleTemporalAggregation: stride={stride} needs stage=True; set it, or stride=1"
            raise ValueError(message)
        self.num_frames = num_frames
        self.stride = stride
        self.stage = stage
        width = channels // groups
        self.filters = nn.ParameterList(nn.Parameter(torch.empty(width, _TAPS)) for _ in range(groups))
        self.convs = nn.ModuleList(
            ConvNorm(width, width, kernel_size=3, stride=stride, relu=True) for _ in range(groups - 1)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the filters to the identity, those of the last group to shifts, and draw the convolutions anew."""
        with torch.no_grad():
            for weight_ck in self.filters:
                weight_ck.copy_(torch.tensor([0.0, 1.0, 0.0]).expand_as(weight_ck))
            half = self.filters[-1].shape[0] // 2
            self.filters[-1][:half] = torch.tensor([0.0, 0.0, 1.0])
            self.filters[-1][half : 2 * half] = torch.tensor([1.0, 0.0, 0.0])
        draw_anew(self, conv=by_outputs, linear=None, zero_biases=True)

    def forward(self, x_fchw: Tensor) -> Tensor:
        """Return the aggregated frames."""
        check_input("MultipleTemporalAggregation", x_fchw, self.channels)
        groups = x_fchw.chunk(len(self.filters), dim=1)
        results: list[Tensor] = []
        for i, conv in enumerate(self.convs):
            group = groups[i] + results[-1] if results and not self.stage else groups[i]
            results.append(conv(self._filter(group, i)))
        last = self._filter(groups[-1], len(self.convs))
        if self.stage:
            last = avg_pool2d(last, 3, stride=self.stride, padding=1)
        return torch.cat([*results, last], dim=1)

    def _filter(self, x_fchw: Tensor, group: int) -> Tensor:
        x_ntchw = to_clips(x_fchw, self.num_frames, "MultipleTemporalAggregation")
        weight_ck = self.filters[group]
        taps = [weight_ck[None, None, :, k, None, None] for k in range(_TAPS)]
        return filter_frames(x_ntchw, taps).flatten(0, 1)
